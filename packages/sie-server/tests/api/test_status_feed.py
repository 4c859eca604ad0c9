"""`WS /ws/status`: what its frames say, who may read them, and that no client holds the server up."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import torch
from httpx2.websockets import WebSocketDisconnect, WebSocketSession, WebSocketUpgradeError
from jsonschema_rs import Draft202012Validator

from sie_server import __version__
from sie_server.api import status_feed
from sie_server.api.openapi import openapi
from sie_testing.serving import EMBEDDED, InProcess, Server, connect, in_process, poll

HANDSHAKE = (
    "GET /ws/status HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextmanager
def watching(url: str, **headers: str) -> Iterator[WebSocketSession]:
    with (
        httpx2.Client(trust_env=False) as client,
        client.websocket(f"{url}/ws/status", headers=headers, max_message_size_bytes=2**20) as session,
    ):
        yield session


def frame(session: WebSocketSession) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(session.receive_text(timeout=60))
    return said


def crowd(stack: ExitStack, url: str) -> None:
    while True:
        frame(stack.enter_context(watching(url)))


def last(session: WebSocketSession) -> None:
    while True:
        frame(session)


def test_a_frame_describes_the_server(server: Server) -> None:
    with watching(server.url) as session:
        said = frame(session)
    kinds = {
        "timestamp": float, "ready": bool, "name": str, "machine_profile": str, "pool_name": str, "gpu_count": int,
        "bundle": str, "bundle_config_hash": str, "loaded_models": list, "max_batch_requests": int, "saturated": bool,
        "queue_seconds": float, "queued_tokens": int, "computed_tokens": int, "utilization_pct": float,
        "server": dict, "gpus": list, "models": list,
    }  # fmt: skip
    assert {name: type(value) for name, value in said.items()} == kinds
    schemas = openapi()["components"]
    Draft202012Validator({"$ref": "#/components/schemas/StatusFrame", "components": schemas}).validate(said)
    assert abs(said["timestamp"] - time.time()) < 60
    assert (said["ready"], said["machine_profile"], said["gpu_count"], said["gpus"]) == (True, "cpu", 0, [])
    assert (said["server"]["version"], said["server"]["pid"]) == (__version__, server.pid)
    assert said["server"].keys() == {"version", "uptime_seconds", "user", "working_dir", "pid"}
    assert isinstance(said["server"]["uptime_seconds"], int)
    assert said["server"]["uptime_seconds"] >= 0
    assert EMBEDDED in said["loaded_models"]


def test_the_models_of_a_frame(server: Server) -> None:
    with watching(server.url) as session:
        said = frame(session)["models"]
    embedded = next(model for model in said if model["name"] == EMBEDDED)
    assert said == sorted(said, key=lambda model: -model["memory_bytes"])
    config = embedded.pop("config")
    assert embedded.pop("memory_bytes") > 40_000_000
    idle = {"queue_depth": 0, "queue_pending_items": 0, "queue_seconds": 0.0}
    assert embedded == {"name": EMBEDDED, "state": "loaded", "device": "cpu", **idle}
    assert config["hf_id"] == EMBEDDED
    assert (config["dims"], config["max_sequence_length"]) == ({"dense": 384, "multivector": 384}, 256)
    cold = next(model for model in said if model["name"] == "BAAI/bge-reranker-large")
    assert (cold["state"], cold["device"], cold["memory_bytes"]) == ("available", None, 0)


def test_computed_tokens_are_counted(in_memory: InProcess) -> None:
    with watching(in_memory.url) as session, connect(in_memory.url) as client:
        before = frame(session)["computed_tokens"]
        encoded = client.post(f"/v1/encode/{EMBEDDED}", json={"items": [{"text": "it is"}] * 2}).json()
        tokens = encoded["usage"]["input_tokens"]
        assert tokens == 8
        poll(lambda: frame(session)["computed_tokens"] == before + tokens)


@pytest.mark.parametrize(
    ("gpu", "gib", "name"),
    [
        ("NVIDIA L4", 22, "l4"),
        ("Tesla T4", 15, "t4"),
        ("NVIDIA A10G", 22, "a10g"),
        ("NVIDIA A100-SXM4-40GB", 40, "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", 80, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", 79, "h100"),
        ("NVIDIA L40S", 44, "unknown"),
        ("NVIDIA GeForce RTX 4090", 24, "unknown"),
    ],
)
def test_the_type_of_a_gpu(monkeypatch: pytest.MonkeyPatch, gpu: str, gib: int, name: str) -> None:
    class Properties:
        total_memory = gib * 2**30

    Properties.name = gpu  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    assert status_feed.gpu_type(torch.device("cuda")) == name


def test_waiting_requests_are_counted(in_memory: InProcess) -> None:
    engine, texts = in_memory.engine, [{"text": "it is " * 40}] * 100
    with watching(in_memory.url) as session, connect(in_memory.url) as client:
        asking = threading.Thread(target=lambda: client.post(f"/v1/encode/{EMBEDDED}", json={"items": texts}))
        asking.start()
        waiting = {}
        while asking.is_alive() and not waiting.get("queue_depth"):
            waiting = next(model for model in frame(session)["models"] if model["name"] == EMBEDDED)
        asking.join()
    assert waiting["queue_depth"] == 1
    assert 0 < waiting["queue_pending_items"] <= 100
    assert engine.scheduler.waiting() == {}


def test_frames_come_again_and_again_to_everybody(server: Server) -> None:
    with watching(server.url) as one, watching(server.url) as other:
        times = [[frame(session)["timestamp"] for _ in range(5)] for session in (one, other)]
    for seen in times:
        assert seen == sorted(set(seen))


@pytest.fixture(scope="module")
def in_memory() -> Iterator[InProcess]:
    with in_process(preload=(EMBEDDED,), precision="float32", cors_origins=("https://ops.example",)) as running:
        yield running


ORIGINS = [
    ("https://ops.example", True),
    *((origin, False) for origin in ("https://evil.example", "http://[", "", "null")),
]


@pytest.mark.parametrize(("origin", "allowed"), ORIGINS)
def test_pages_of_other_origins_are_refused(in_memory: InProcess, origin: str, allowed: bool) -> None:
    with ExitStack() as stack:
        if allowed:
            assert frame(stack.enter_context(watching(in_memory.url, origin=origin)))["ready"]
            return
        with pytest.raises(WebSocketUpgradeError) as refused:
            stack.enter_context(watching(in_memory.url, origin=origin))
    assert refused.value.response.status_code == 403


def test_a_page_of_the_server_itself_is_not(in_memory: InProcess) -> None:
    with watching(in_memory.url, origin=f"http://{urlsplit(in_memory.url).netloc}") as session:
        assert frame(session)["ready"]


def test_nor_is_one_behind_a_proxy_that_tells_its_host(in_memory: InProcess) -> None:
    headers = {"X-Forwarded-Host": "search.example, inner"}
    with watching(in_memory.url, origin="https://search.example", **headers) as session:
        assert frame(session)["ready"]
    for origin in ("https://inner", "https://evil.example", ""):
        with pytest.raises(WebSocketUpgradeError), watching(in_memory.url, origin=origin, **headers):
            pass


@pytest.mark.parametrize("path", ["/v1/models", "/v1/score/a", "/ws/status/", "/%00"])
def test_there_are_no_websockets_elsewhere(in_memory: InProcess, path: str) -> None:
    url = urlsplit(in_memory.url)
    with socket.create_connection((url.hostname, url.port), 20) as connection:
        connection.sendall(HANDSHAKE.replace("/ws/status", path).encode())
        answer = b""
        while not answer.endswith(b"}}"):
            answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (int(head.split()[1]), json.loads(body)["detail"]["code"]) == (404, "NOT_FOUND")


def test_a_plain_http_request_gets_an_explanation(api: httpx2.Client) -> None:
    answer = api.get("/ws/status")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert answer.json() == {"detail": "/ws/status accepts only WebSocket connections"}


def test_the_number_of_watchers_is_limited(in_memory: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_feed, "MOST_WATCHERS", 2)
    with ExitStack() as stack, pytest.raises(WebSocketUpgradeError) as refused:
        crowd(stack, in_memory.url)
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["retry-after"] == "5"

    def readmitted() -> bool:
        try:
            with watching(in_memory.url) as session:
                return bool(frame(session))
        except WebSocketUpgradeError:
            return False

    poll(readmitted)


def test_an_api_key_has_no_more_watchers_than_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_feed, "MOST_WATCHERS_OF_A_KEY", 2)
    one, other = {"Authorization": "Bearer one"}, {"Authorization": "Bearer other"}
    with in_process(api_keys=("one", "other")) as running, ExitStack() as stack:
        for _ in range(2):
            frame(stack.enter_context(watching(running.url, **one)))
        with pytest.raises(WebSocketUpgradeError) as refused, watching(running.url, **one):
            pass
        assert refused.value.response.status_code == 503
        assert frame(stack.enter_context(watching(running.url, **other)))


def test_a_client_that_does_not_read_is_dropped(in_memory: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_feed, "_SEND_TIMEOUT_S", 0.2)
    monkeypatch.setattr(status_feed, "_INTERVAL_S", 0.001)
    ended = threading.Event()
    gone = status_feed._disconnected

    async def noticed(websocket: Any) -> None:
        try:
            await gone(websocket)
        finally:
            ended.set()  # cancelled when the handler returns

    monkeypatch.setattr(status_feed, "_disconnected", noticed)
    with socket.create_connection(urlsplit(in_memory.url).netloc.split(":")) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.sendall(HANDSHAKE.encode())
        assert ended.wait(20)
        with connect(in_memory.url) as client:
            assert client.get("/healthz").text == "ok"


def test_the_server_stops_while_it_is_watched() -> None:
    with Server("--preload", EMBEDDED, "--drain-s=3600") as running, watching(running.url) as session:
        frame(session)
        running.stop()  # raises where it does not end soon
        assert "Traceback" not in running.log
        with pytest.raises(WebSocketDisconnect, check=lambda closed: closed.code == 1012):
            last(session)
