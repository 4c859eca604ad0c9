"""The arguments: replicas, and every setting of `serve`, under its name and with its checks."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

from pydantic import ValidationError

from sie_server.ray.arguments import Arguments
from sie_server.settings import Settings

pytestmark = pytest.mark.ray
OF_RAY = {"host", "port", "max_connections", "drain_notice_s"}


def settings(**arguments: Any) -> Settings:
    return Arguments.model_validate(arguments).settings()


def test_every_setting_is_an_argument_or_refused_by_name() -> None:
    for each in fields(Settings):
        if each.name in OF_RAY:
            with pytest.raises(ValidationError, match=f"{each.name} is not a setting here"):
                Arguments.model_validate({each.name: each.default})
        else:
            given = Arguments.model_validate({} if each.default is None else {each.name: each.default})
            assert getattr(given, each.name) == each.default


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"quue_tokens": 5}, "quue_tokens"),
        ({"queue_tokens": 0}, "queue_tokens\n.*Must be >= 1"),
        ({"precision": "fp8"}, "precision\n.*'int8'"),
        ({"alias": "rerank"}, "is not NAME=ID"),
        ({"replicas": 2, "max_replicas": 3}, "replicas is a fixed number"),
        ({"min_replicas": 2}, "needs max_replicas"),
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas 2 is less than min_replicas 3"),
        ({"device": "cuda"}, "device cuda needs num_gpus"),
    ],
)
def test_what_is_wrong_is_said_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Arguments.model_validate(wrong)


def test_texts_of_a_command_line_are_values(tmp_path: Path) -> None:
    given = settings(
        models=f"a={tmp_path},b={tmp_path}", queue_tokens="5", verify="true", preload="x, y", drain_s="1.5"
    )
    assert given.model == (f"a={tmp_path}", f"b={tmp_path}")
    assert given.preload == ("a", "b", "x", "y")
    assert (given.queue_tokens, given.verify, given.drain_s) == (5, True, 1.5)


def test_what_is_not_given_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIE_API_KEYS", "one,two")
    monkeypatch.setenv("SIE_QUEUE_TOKENS", "7")
    assert settings().api_keys == ("one", "two")
    assert settings().queue_tokens == 7
    assert settings(queue_tokens=8).queue_tokens == 8


def test_a_replica_takes_what_ray_reserves_for_it() -> None:
    assert settings(num_cpus=3).workers == 3
    assert settings(num_cpus=0.5).workers == 1
    assert settings(num_cpus=3, workers=2).workers == 2
    assert settings().device == "cpu"
    assert (settings(num_gpus=1).device, settings(num_gpus=1).workers) == ("auto", 0)
