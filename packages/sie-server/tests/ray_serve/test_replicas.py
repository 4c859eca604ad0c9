"""Each replica is the server: its scores, refusals, limits, keys and routes, through Ray's proxy."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

from sie_sdk import SIEClient
from sie_testing.ray_cluster import Cluster
from sie_testing.serving import Server, connect, error, metric, scores

pytestmark = pytest.mark.ray
QUERY = "what is python"
DOCUMENTS = ["snakes are reptiles", "python is a programming language", "who made it", "a", "language " * 300]
BODY = {"query": {"text": QUERY}, "items": [{"text": text} for text in DOCUMENTS]}
KEY = {"Authorization": "Bearer first"}


@pytest.fixture(scope="module")
def api(cluster: Cluster, bert: str) -> Iterator[httpx2.Client]:
    cluster.deploy(
        models=bert, replicas=2, precision="float32", catalogue="none", api_keys="first,second", queue_tokens=2000
    )
    with connect(cluster.url) as client:
        client.headers.update(KEY)
        yield client


def test_every_replica_gives_the_scores_of_a_server_alone(api: httpx2.Client, models: Path) -> None:
    with Server("--model", f"bert={models / 'bert'}", "--precision=float32") as alone, connect(alone.url) as client:
        expected = scores(client, "bert", QUERY, DOCUMENTS)
    instances = set()
    for _ in range(40):
        assert scores(api, "bert", QUERY, DOCUMENTS) == expected
        # Two, as the replicas get requests in turns.
        instances |= {api.get("/readyz").headers["x-sie-runtime-instance"] for _ in range(2)}
    assert len(instances) == 2


def test_routes_and_refusals_are_the_servers(api: httpx2.Client, cluster: Cluster) -> None:
    assert [api.get(path).status_code for path in ("/readyz", "/livez", "/healthz", "/docs")] == [200] * 4
    assert [model["name"] for model in api.get("/v1/models").json()["models"]] == ["bert"]
    assert error(api.post("/v1/score/other", json=BODY))[:2] == (404, "MODEL_NOT_FOUND")
    assert error(api.post("/v1/score/bert", content=b"{"))[:2] == (400, "INVALID_INPUT")
    assert httpx2.get(f"{cluster.url}/v1/models").status_code == 401
    late = {"X-Request-Timeout": "0.000001"}
    assert error(api.post("/v1/score/bert", json=BODY, headers=late))[:2] == (504, "GATEWAY_TIMEOUT")
    assert metric(api, "sie_ready") == 1


def test_a_full_queue_says_when_to_retry(api: httpx2.Client) -> None:
    body = json.dumps({"query": {"text": QUERY}, "items": [{"text": f"{'python ' * 300}{i}"} for i in range(400)]})
    answers: list[httpx2.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(api.post("/v1/score/bert", content=body))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {error(answer)[1] for answer in refused} == {"QUEUE_FULL"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


@pytest.mark.usefixtures("api")
def test_the_sdk_scores_and_watches(cluster: Cluster) -> None:
    with SIEClient(cluster.url, api_key="first") as client:
        assert client.score("bert", {"text": QUERY}, [{"text": text} for text in DOCUMENTS])["scores"]
        assert next(iter(client.watch("worker")))["ready"]
    with connect(cluster.url) as plain:
        assert plain.get("/ws/status", headers=KEY).status_code == 426
