"""What a gateway in front of several machines is asked, by both clients."""

import asyncio
import json
import logging
import threading

import httpx2
import numpy as np
import pytest
from sdk_stand_ins import BASE_URL, SCORED, Server, packed, refused

from sie_sdk import PoolError, ProvisioningError, RequestError, SIEAsyncClient, SIEClient, _gateway

L4 = {"name": "a", "gpu": "l4", "healthy": True}
SICK = {"name": "b", "gpu": "L4", "healthy": False}
A100 = {"name": "c", "gpu": "a100-80gb"}
POOL = {"name": "night run", "spec": {"gpus": {"l4": 2}}, "status": {"state": "pending", "assigned_workers": []}}
NOT_FOUND = httpx2.Response(404, json={"detail": "Not Found"})
DOWN = httpx2.ConnectError("refused")


def health(*workers, **fields):
    cluster = {"worker_count": len(workers), "gpu_count": 3, "models_loaded": 1, "total_qps": 0.5}
    said = {"status": "healthy", "type": "gateway", "cluster": cluster, "workers": list(workers)}
    return httpx2.Response(200, json=said | {"configured_gpu_types": ["l4"], "live_gpu_types": ["l4"]} | fields)


def said(server):
    return [(request.method, request.url.raw_path.decode()) for request in server.requests]


def test_capacity(connect):
    server = Server(health(L4, SICK, A100))
    client = connect(server, api_key="k")
    everything = client.get_capacity()
    assert (everything["worker_count"], everything["gpu_count"], everything["models_loaded"]) == (3, 3, 1)
    assert (everything["status"], everything["configured_gpu_types"]) == ("healthy", ["l4"])
    for gpu in ("l4", "L4", "night/l4"):
        of_profile = client.get_capacity(gpu)
        assert (of_profile["worker_count"], of_profile["workers"]) == (1, [L4, SICK])
    assert client.get_capacity("h100")["worker_count"] == 0
    assert said(server)[0] == ("GET", "/health")
    assert server.requests[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize("answer", [NOT_FOUND, httpx2.Response(200, json={"status": "healthy", "type": "worker"})])
def test_a_server_is_no_gateway(connect, fake_time, answer):
    client = connect(Server(answer))
    for ask in (client.get_capacity, lambda: client.wait_for_capacity("l4")):
        with pytest.raises(RequestError, match=r"Not Found|no gateway"):
            ask()
    assert fake_time.pauses == []


def test_waiting_for_a_machine(connect, fake_time):
    server = Server(health(), DOWN, refused(500), health(SICK), health(L4))
    assert connect(server).wait_for_capacity("l4", poll_interval_s=7.0)["workers"] == [L4]
    assert fake_time.pauses == [7.0] * 4


def test_waiting_in_vain(connect, fake_time):
    with pytest.raises(ProvisioningError, match="no machine of profile 'l4' within 12 s") as caught:
        connect(Server(health(A100))).wait_for_capacity("l4", timeout_s=12.0)
    assert caught.value.gpu == "l4"
    assert fake_time.pauses == [5.0, 5.0, 2.0]


@pytest.mark.parametrize("arguments", [{"timeout_s": -1.0}, {"poll_interval_s": float("nan")}])
def test_waits_that_are_none(connect, arguments):
    with pytest.raises(ValueError, match=r"timeout_s|poll_interval_s"):
        connect(Server(health())).wait_for_capacity("l4", **arguments)


def described(*outputs):
    return httpx2.Response(200, json={"name": "m", "outputs": list(outputs)})


def test_waiting_for_a_model_of_vectors(connect, fake_time):
    vectors = {"multivector": {"values": np.ones((1, 1), "<f4")}}
    loading = refused(503, "MODEL_LOADING", headers={"retry-after": "3"})
    answers = [described("multivector", "score"), loading, packed({"model": "m", "items": [vectors]}), health(L4)]
    server = Server(*answers)
    assert connect(server).wait_for_capacity("night/l4", model="org/m")["worker_count"] == 1
    assert said(server) == [
        ("GET", "/v1/models/org/m"), ("POST", "/v1/encode/org/m"), ("POST", "/v1/encode/org/m"), ("GET", "/health"),
    ]  # fmt: skip
    assert server.requests[1].headers["x-sie-machine-profile"] == "l4"
    assert fake_time.pauses == [3.0]


def test_waiting_for_a_reranker(connect):
    server = Server(described("score"), packed(SCORED), health(L4))
    connect(server).wait_for_capacity("l4", model="m")
    assert said(server)[1] == ("POST", "/v1/score/m")


def test_pools(connect):
    server = Server(httpx2.Response(200, json=POOL))
    client = connect(server)
    assert client.create_pool("night run", {"l4": 2}, minimum_worker_count=1) == POOL
    assert client.get_pool("night run") == POOL
    assert client.delete_pool("night run") is True
    path = "/v1/pools/night%20run"
    assert said(server) == [("POST", "/v1/pools"), ("GET", path), ("DELETE", path)]
    body = json.loads(server.requests[0].content)
    assert body == {"name": "night run", "gpus": {"l4": 2}, "minimum_worker_count": 1}
    assert server.requests[0].headers["content-type"] == "application/json"


def test_pools_that_are_not_there(connect):
    client = connect(Server(refused(404, "POOL_NOT_FOUND")))
    assert client.get_pool("p") is None
    assert client.delete_pool("p") is False
    with pytest.raises(ValueError, match="a pool has a name"):
        client.get_pool("")


@pytest.mark.parametrize("ask", ["get_pool", "delete_pool"])
def test_pools_that_others_own(connect, ask):
    with pytest.raises(RequestError, match="not yours"):
        getattr(connect(Server(refused(403, "POOL_OPERATION_FORBIDDEN", "not yours"))), ask)("p")


def test_pools_that_are_refused(connect):
    with pytest.raises(PoolError, match="too many") as caught:
        connect(Server(refused(409, "QUOTA", "too many"))).create_pool("p", {"l4": 99})
    assert (caught.value.pool_name, caught.value.code, caught.value.status_code) == ("p", "QUOTA", 409)


class Pools(Server):
    """Knows one pool; `renewed` is set at the third request for its lease. All of them fail."""

    def __init__(self):
        super().__init__()
        self.renewed = threading.Event()

    def __call__(self, request):
        self.requests.append(request)
        renewals = sum(request.url.path == "/v1/pools/p/renew" for request in self.requests)
        if renewals == 3:
            self.renewed.set()
        return refused(500) if request.url.path.endswith("/renew") else httpx2.Response(200, json=POOL)


def test_the_lease_is_kept_until_the_end(monkeypatch, caplog):
    monkeypatch.setattr(_gateway, "RENEWAL_S", 0.01)
    server = Pools()
    with SIEClient(BASE_URL, http_client=httpx2.Client(transport=httpx2.MockTransport(server))) as client:
        client.create_pool("p")
        client.create_pool("p")
        [thread] = [thread for thread in threading.enumerate() if thread.name == "sie-sdk-lease"]
        assert server.renewed.wait(20)
    thread.join(20)
    assert not thread.is_alive()
    assert (caplog.records[0].levelno, caplog.records[0].name) == (logging.WARNING, "sie_sdk")


def test_the_lease_is_kept_on_an_event_loop(monkeypatch):
    monkeypatch.setattr(_gateway, "RENEWAL_S", 0.01)
    server = Pools()

    async def kept():
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(server))
        async with SIEAsyncClient(BASE_URL, http_client=http) as client:
            await client.create_pool("p")
            assert await asyncio.to_thread(server.renewed.wait, 20)
            await client.delete_pool("p")
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert not asyncio.run(kept())
    assert said(server)[-1] == ("DELETE", "/v1/pools/p")
