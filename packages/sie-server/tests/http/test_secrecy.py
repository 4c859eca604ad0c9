"""What is not told: the text of requests to the log, the inside of the server to clients, anything to anybody else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgpack
import psutil
import pytest

import sie_server
from sie_server.models.bert import Bert
from sie_testing.serving import EMBEDDED, Server, connect, error, in_process

CANARY = "kanarienvogel"
ITEM = {"id": f"{CANARY}-id", "text": CANARY, "metadata": {CANARY: CANARY}}
TEXTS: list[tuple[str, Any]] = [
    (f"/v1/score/{EMBEDDED}", {"query": ITEM, "items": [ITEM], "instruction": CANARY}),
    (f"/v1/encode/{EMBEDDED}", {"items": [ITEM], "params": {"options": {"doc_template": CANARY + "{text}"}}}),
    (f"/v1/extract/{EMBEDDED}", {"items": [ITEM], "params": {"labels": [CANARY]}}),
    ("/v1/embeddings", {"model": EMBEDDED, "input": [CANARY], "user": CANARY}),
    ("/v1/rerank", {"model": EMBEDDED, "query": CANARY, "documents": [CANARY]}),
    # refused
    (f"/v1/score/{CANARY}", {"query": ITEM, "items": [ITEM]}),
    (f"/v1/score/{EMBEDDED}", {"query": ITEM, "items": [{"text": [CANARY]}]}),
    (f"/v1/score/{EMBEDDED}", {"query": ITEM, "items": [ITEM], "options": {"profile": CANARY}}),
    (f"/v1/encode/{EMBEDDED}", {"items": [ITEM], "params": {"output_types": [CANARY]}}),
    ("/v1/embeddings", {"model": CANARY, "input": CANARY}),
    ("/v1/rerank", {"model": EMBEDDED, "query": CANARY, "documents": [CANARY], CANARY: 1}),
    (f"/v1/{CANARY}", {}),
]


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server as it is by default."""
    with Server("--preload", EMBEDDED, "--log-level=info") as running:
        yield running


@pytest.fixture(scope="module")
def client(own: Server) -> Iterator[httpx2.Client]:
    with connect(own.url) as connected:
        yield connected


@pytest.mark.parametrize("encoding", ["application/json", "application/msgpack"])
def test_texts_are_not_logged(own: Server, client: httpx2.Client, encoding: str) -> None:
    for path, body in TEXTS:
        json = encoding == "application/json"
        sent: dict[str, Any] = {"json": body} if json else {"content": msgpack.packb(body)}
        headers = {"Content-Type": encoding, "X-Request-ID": CANARY, "Authorization": f"Bearer {CANARY}"}
        assert client.post(f"{path}?{CANARY}", headers=headers, **sent).status_code < 500
    assert CANARY not in own.log


def test_nor_when_the_device_fails(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the device is on fire")

    with in_process(model=(str(models / "bert"),)) as running, connect(running.url) as api:
        assert api.post("/v1/score/bert", json={"query": ITEM, "items": [ITEM]}).status_code == 200
        monkeypatch.setattr(Bert, "forward", fails)
        answer = api.post("/v1/score/bert", json={"query": ITEM, "items": [ITEM]})
        assert error(answer) == (500, "INFERENCE_ERROR", "internal error during scoring")
    assert "on fire" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    "model",
    [
        *("..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..%5c..%5cetc", "/etc", "file:///etc/passwd"),
        *("a%00b", "a%0d%0aX-Injected:%201", "%ff%fe", "a%0a2026-01-01%20INFO%20forged", "%F0%9F%90", "~root"),
        *("$(id)", "{0}", "%25s%25n", "a" * 50_000, "%E2%80%AE", "%2e%2e"),
    ],
)
@pytest.mark.parametrize("route", ["score", "encode", "extract", "models"])
def test_ids_are_names_and_no_paths(own: Server, client: httpx2.Client, route: str, model: str) -> None:
    url = f"{own.url}/v1/{route}/{model}"
    body = None if route == "models" else {"query": ITEM, "items": [ITEM]}
    request = client.build_request("GET" if body is None else "POST", own.url, json=body)
    # As it is written: a client's library would tidy it up.
    request.url = httpx2.URL(own.url).copy_with(raw_path=url.removeprefix(own.url).encode())
    answer = client.send(request)
    assert answer.status_code == 404
    assert "x-injected" not in answer.headers
    assert "root:" not in answer.text
    assert not re.search("forged|Injected|passwd", own.log)


@pytest.mark.parametrize("given", ["a b", "a\tb", "x" * 129, "é", "a;b", ""])
def test_an_invalid_request_id_is_replaced(client: httpx2.Client, given: str) -> None:
    answer = client.get("/healthz", headers=[(b"X-Request-ID", given.encode("latin-1"))])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-sie-request-id"])


def test_it_opens_no_other_connection(own: Server, client: httpx2.Client) -> None:
    assert client.get("/livez").status_code == 200
    port = urlsplit(own.url).port
    found = psutil.Process(own.pid).net_connections("inet")
    assert found
    assert {connection.laddr.port for connection in found} == {port}


# What the proxy of Ray Serve hands to its router: bytes that it has made itself, in the same process.
PICKLES = Path("ray", "router.py")


def test_no_source_asks_for_remote_code_or_reads_pickles() -> None:
    package = Path(sie_server.__file__).parent
    for source in package.rglob("*.py"):
        text = source.read_text()
        assert not re.search(r"trust_remote_code\s*=[^=]|shell=True", text), source
        assert "pickle." not in text or source.relative_to(package) == PICKLES, source
        assert "torch.load(" not in text or "weights_only=True" in text, source
