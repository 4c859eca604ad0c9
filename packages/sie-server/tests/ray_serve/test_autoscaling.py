"""The number of replicas by the seconds of queued work, decided as Ray decides: bounds and delays are its own."""

from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from sie_server.ray.autoscaling import QueueSeconds

pytestmark = pytest.mark.ray


def context(replicas: int, metrics: Mapping[str, Any], **config: Any) -> AutoscalingContext:
    return AutoscalingContext(
        deployment_id=None,
        deployment_name="sie",
        app_name="default",
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=[],
        total_num_requests=0.0,
        total_queued_requests=0.0,
        aggregated_metrics=metrics,
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=10,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=AutoscalingConfig(min_replicas=1, max_replicas=10, **config),
    )


def needed(seconds: list[float], busy: list[float]) -> float:
    metrics = {"queue_seconds": dict(enumerate(seconds)), "busy": dict(enumerate(busy))}
    replicas, state = QueueSeconds(0.5)(context(len(seconds), metrics))
    assert state == {}
    return replicas


def test_seconds_above_the_target_ask_for_more_replicas() -> None:
    assert needed([0.75, 0.75], [1.0, 1.0]) == pytest.approx(3)
    assert needed([0.5, 0.5], [1.0, 1.0]) == pytest.approx(2)
    assert needed([60.0], [1.0]) == 2  # a backlog is no number of replicas


def test_short_queues_allow_fewer_replicas_only_if_these_could_do_the_work() -> None:
    assert needed([0.0] * 4, [0.0] * 4) == 0  # Ray keeps the least
    assert needed([0.0] * 4, [0.35] * 4) == pytest.approx(2)
    assert needed([0.1] * 4, [0.9] * 4) == 4


def test_nothing_is_decided_before_a_replica_has_reported() -> None:
    assert QueueSeconds(0.5)(context(3, {}))[0] == 3
    assert QueueSeconds(0.5)(context(0, {}))[0] == 0


def test_ray_applies_its_delay_to_it() -> None:
    metrics = {"queue_seconds": {"a": 5.0}, "busy": {"a": 1.0}}
    at_once = _apply_autoscaling_config(QueueSeconds(0.5))
    assert at_once(context(1, metrics, upscale_delay_s=0.0))[0] == 2
    assert at_once(context(1, metrics, upscale_delay_s=30.0))[0] == 1
