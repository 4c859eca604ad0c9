"""Under load, replicas are updated, killed, added and removed, and none loads a model that another one owns."""

from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

from ray_autoscaling import follow
from ray_faults import faults
from ray_routing import count

from sie_testing.checkpoints import build
from sie_testing.ray_cluster import Cluster
from sie_testing.serving import connect, poll

pytestmark = pytest.mark.ray


def test_no_answer_is_wrong_and_none_is_lost_by_an_update_or_by_the_sdk(cluster: Cluster) -> None:
    counted = faults(cluster, updates=1, kills=1, threads=1)
    for fault, calls in counted.items():
        for each in calls:
            print(f"{fault}: {each.client}: {each.sent} sent, {dict(each.failed)} failed, {each.wrong} wrong")
            assert each.sent
            assert not each.wrong
            # A request that a killed replica was answering is lost, for a client that does not ask again.
            assert not each.failed or (fault == "kill -9 of a replica" and each.client != "SDK")


def test_each_model_is_loaded_once(cluster: Cluster, tmp_path: Path) -> None:
    folders = [tmp_path / f"model-{number}" for number in range(4)]
    for folder in folders:
        build(folder, "bert")
    counted = count(cluster, folders, replicas=2, held=2, requests=60)
    assert (counted.failed, counted.loads, counted.unloads, counted.most) == (0, 4, 0, 2)


def test_a_replica_whose_device_hangs_answers_what_waits_and_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    build(tmp_path / "slow", "bert", hidden_size=512, num_hidden_layers=12, intermediate_size=2048)
    # A batch takes longer than a device may.
    cluster.deploy(
        models=f"slow={tmp_path / 'slow'}", replicas=1, precision="float32", batch_tokens=16384, wedged_after=0.05
    )
    (hung,) = cluster.processes()
    documents = [{"text": f"{'python ' * 100}w{number}"} for number in range(160)]
    with connect(cluster.url) as client:
        answer = client.post("/v1/score/slow", json={"query": {"text": "w1"}, "items": documents})
    assert (answer.status_code, answer.headers["x-sie-error-code"]) == (503, "QUEUE_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    poll(lambda: [pid for pid in cluster.processes() if pid != hung], 60)


@pytest.mark.long
def test_replicas_follow_the_load(cluster: Cluster) -> None:
    phases = follow(cluster, seconds=30)
    assert [phase.replicas for phase in phases] == [1, 2, 1]
    assert phases[1].last_s < phases[1].first_s
    assert all(not phase.calls.failed and not phase.calls.wrong for phase in phases)
