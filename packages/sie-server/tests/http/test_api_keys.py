"""API keys: who is let in, who is told what, and where a key never shows."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from httpx2.websockets import WebSocketUpgradeError
from openai import AuthenticationError, OpenAI

from sie_sdk import RequestError, SIEClient
from sie_server.settings import Settings
from sie_testing.serving import EMBEDDED, Server, connect, error, in_process, poll

KEY, OTHER, LISTED = "first-of-2.keys~", "second/of+2=", "one-of-a-file"
BODY = {"query": {"text": "what is python"}, "items": [{"text": "it"}]}
TEXTS = {"model": EMBEDDED, "input": "it"}
RANKED = {"model": EMBEDDED, "query": "it", "documents": ["it"]}
PAGE = "https://search.example"
CLOSED: list[tuple[str, str, Any]] = [
    ("POST", f"/v1/score/{EMBEDDED}", BODY),
    ("POST", f"/v1/encode/{EMBEDDED}", {"items": [{"text": "it"}]}),
    ("GET", "/v1/models", None),
    ("GET", f"/v1/models/{EMBEDDED}", None),
    ("GET", "/metrics", None),
    ("GET", "/docs", None),
    ("GET", "/openapi.json", None),
    ("GET", "/", None),
    ("GET", "/nowhere", None),
    ("GET", "/ws/status", None),
    ("POST", "/healthz/", None),
    ("GET", "//healthz", None),
    ("GET", "/healthz%2F..%2F..%2Fv1/models", None),
    ("OPTIONS", "/v1/models", None),
]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# those of the search team\n\n{LISTED}  # until spring\n")
    return path


@pytest.fixture(scope="module")
def closed(file: Path) -> Iterator[Server]:
    keys = {"SIE_API_KEYS": f"{KEY}, {OTHER}", "SIE_API_KEYS_FILE": str(file)}
    with Server("--preload", EMBEDDED, f"--cors-origins={PAGE}", "--log-level=debug", environment=keys) as running:
        yield running


@pytest.fixture(scope="module")
def doors(closed: Server) -> Iterator[httpx2.Client]:
    with connect(closed.url) as client:
        yield client


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/livez"])
def test_health_needs_no_key(doors: httpx2.Client, path: str) -> None:
    assert doors.get(path).text == "ok"


@pytest.mark.parametrize(("method", "path", "body"), CLOSED)
def test_nothing_else_is_open(doors: httpx2.Client, method: str, path: str, body: Any) -> None:
    answer = doors.request(method, path, json=body)
    assert error(answer)[:2] == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == 'Bearer realm="sie"'


@pytest.mark.parametrize("key", [KEY, OTHER, LISTED])
def test_each_key_opens(doors: httpx2.Client, key: str) -> None:
    assert doors.post(f"/v1/score/{EMBEDDED}", json=BODY, headers=bearer(key)).status_code == 200
    assert doors.get("/metrics", headers={"Authorization": f"bearer  {key}"}).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {"Authorization": KEY},
        {"Api-Key": KEY},
        {"X-API-Key": KEY},
        {"X-API-Key": KEY, "Authorization": "Bearer"},
    ],
)
def test_a_key_may_be_in_the_headers_of_other_apis(doors: httpx2.Client, sent: dict[str, str]) -> None:
    assert doors.post(f"/v1/score/{EMBEDDED}", json=BODY, headers=sent).status_code == 200
    wrong = {name: f"{value}x" for name, value in sent.items()}
    assert error(doors.post(f"/v1/score/{EMBEDDED}", json=BODY, headers=wrong))[:2] == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "sent",
    [
        *(
            "",
            "Bearer",
            f"Basic {KEY}",
            f"Bearer {KEY[:-1]}",
            f"Bearer {KEY}x",
            f"Bearer {KEY.upper()}",
        ),
        *(f"Bearer {KEY},{OTHER}", f"Bearer {KEY} {OTHER}", "Bearer " + "x" * 100_000, "Bearer #", "Bearer ÿ"),
    ],
)
def test_no_other_key_does(doors: httpx2.Client, sent: str) -> None:
    answer = doors.post(f"/v1/score/{EMBEDDED}", json=BODY, headers={"Authorization": sent.encode("latin-1")})  # type: ignore[dict-item]
    assert error(answer)[:2] == (401, "UNAUTHORIZED")


def test_two_keys_at_once_are_refused(doors: httpx2.Client) -> None:
    sent = [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {OTHER}")]
    assert error(doors.get("/v1/models", headers=sent))[0] == 401


@pytest.mark.parametrize(("path", "body"), [("embeddings", TEXTS), ("rerank", RANKED)])
def test_the_routes_of_others_refuse_in_their_shape(doors: httpx2.Client, path: str, body: Any) -> None:
    answer = doors.post(f"/v1/{path}", json=body)
    assert answer.status_code == 401
    fields = answer.json()["error"]
    assert (fields["type"], fields["code"]) == ("invalid_request_error", "UNAUTHORIZED")
    assert doors.post(f"/v1/{path}", json=body, headers=bearer(KEY)).status_code == 200


def test_openai_s_client_sends_it(closed: Server) -> None:
    with OpenAI(base_url=f"{closed.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(AuthenticationError):
            client.embeddings.create(model=EMBEDDED, input="it")
        client.with_options(api_key=LISTED).embeddings.create(model=EMBEDDED, input="it")


def test_the_sdk_sends_it_and_says_when_it_is_wrong(closed: Server) -> None:
    with SIEClient(closed.url, api_key=KEY) as client:
        assert client.score(EMBEDDED, {"text": "it"}, [{"text": "it"}])["scores"]
        assert next(iter(client.watch(mode="worker")))["ready"]
    with SIEClient(closed.url, api_key="wrong") as client:
        with pytest.raises(RequestError) as refused:
            client.score(EMBEDDED, {"text": "it"}, [{"text": "it"}])
        assert (refused.value.status_code, refused.value.code) == (401, "UNAUTHORIZED")
        assert "wrong" not in str(refused.value)
        with pytest.raises(RequestError):
            next(iter(client.watch(mode="worker")))


def test_the_status_stream_needs_one(doors: httpx2.Client) -> None:
    with pytest.raises(WebSocketUpgradeError), doors.websocket("/ws/status"):
        pass
    with doors.websocket("/ws/status", headers=bearer(OTHER), max_message_size_bytes=2**20) as session:
        assert "server" in session.receive_text(timeout=10)


def offered(*keys: str) -> str:
    encoded = (base64.urlsafe_b64encode(key.encode()).decode().rstrip("=") for key in keys)
    return ", ".join(["sie.status", *(f"sie.key.{key}" for key in encoded)])


def test_a_browser_offers_it_as_a_subprotocol_of_the_stream(doors: httpx2.Client) -> None:
    sent = {"Sec-WebSocket-Protocol": offered(OTHER)}
    with doors.websocket("/ws/status", headers=sent, max_message_size_bytes=2**20) as session:
        assert "server" in session.receive_text(timeout=10)
        # A browser closes a connection that chooses none of its offers; the key is not repeated.
        assert session.response.headers["sec-websocket-protocol"] == "sie.status"


@pytest.mark.parametrize("protocols", [offered("wrong"), offered(KEY, OTHER), offered(), "sie.key.", "sie.key.a"])
def test_no_other_subprotocol_opens_the_stream(doors: httpx2.Client, protocols: str) -> None:
    with (
        pytest.raises(WebSocketUpgradeError),
        doors.websocket("/ws/status", headers={"Sec-WebSocket-Protocol": protocols}),
    ):
        pass


def test_a_subprotocol_opens_nothing_else(doors: httpx2.Client) -> None:
    assert doors.get("/v1/models", headers={"Sec-WebSocket-Protocol": offered(KEY)}).status_code == 401


def test_a_page_may_ask_whether_it_may_send_one_and_read_why_not(doors: httpx2.Client) -> None:
    asks = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    leave = doors.options(f"/v1/score/{EMBEDDED}", headers=asks)
    assert leave.status_code == 200
    assert "authorization" in leave.headers["access-control-allow-headers"]
    assert doors.get("/v1/models", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == PAGE


def test_refusals_are_counted(doors: httpx2.Client) -> None:
    def counted() -> float:
        text = doors.get("/metrics", headers=bearer(KEY)).text
        [line] = re.findall(
            r'^sie_errors_total{code="UNAUTHORIZED",endpoint="unknown",model="unknown"} (.+)$', text, re.M
        )
        return float(line)

    doors.get("/v1/models")
    before = counted()
    doors.get("/v1/models")
    assert counted() == before + 1


def test_no_key_is_logged_or_answered(closed: Server, doors: httpx2.Client) -> None:
    """The last test of this server, whose log has all the others in it."""
    last = doors.get("/v1/models?key=of-no-use", headers=bearer("sent-by-a-stranger"))
    poll(lambda: last.headers["x-sie-request-id"] in closed.log)
    for key in (KEY, OTHER, LISTED, "sent-by-a-stranger", "of-no-use"):
        assert key not in closed.log
        assert key not in doors.get("/v1/models", headers=bearer(key + "x")).text
        assert key not in repr(Settings(api_keys=(key,)))


def test_keys_of_a_file_come_and_go_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"
    file.write_text("old")
    with in_process(api_keys=("kept",), api_keys_file=file) as running, connect(running.url) as client:

        def opens(*keys: str) -> list[bool]:
            return [client.get("/v1/models", headers=bearer(key)).status_code == 200 for key in keys]

        assert opens("kept", "old", "new") == [True, True, False]
        (tmp_path / "next").write_text("new\n# old")
        os.replace(tmp_path / "next", file)
        assert opens("kept", "old", "new") == [True, False, True]
        not_utf_8 = partial(file.write_bytes, b"new\n\xff")
        for spoil in (partial(file.write_text, "# new"), file.unlink, not_utf_8, file.unlink):
            spoil()
            caplog.clear()
            assert opens("kept", "old", "new", "# new") == [True, False, False, False]
            [record] = caplog.records
            assert f"--api-keys-file {file}" in record.message
            assert "none of its keys is accepted" in record.message
        file.write_text("new")
        assert opens("kept", "new") == [True, True]


@pytest.mark.parametrize(
    ("keys", "content", "message"),
    [
        (("good", ""), "good", "--api-keys, key 2 is empty"),
        (("sécret",), "good", "--api-keys, key 1: a key must consist"),
        ((), None, "cannot be read: No such file or directory"),
        ((), "", "contains no key"),
        ((), "# only words\n \n", "contains no key"),
        ((), "good\nse cret\n", "line 2: a key must consist"),
    ],
)
def test_invalid_keys(tmp_path: Path, keys: tuple[str, ...], content: str | None, message: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=message) as refused, in_process(api_keys=keys, api_keys_file=file):
        pass
    assert "cret" not in str(refused.value)


def sie_server(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "sie_server", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_server_whose_key_was_forgotten_does_not_start_open() -> None:
    run = sie_server("serve", "--port=0", "--host=127.0.0.1", SIE_API_KEYS="")
    assert run.returncode == 2
    assert "--api-keys, key 1 is empty" in run.stderr
    assert "Traceback" not in run.stderr


def test_help_shows_no_key() -> None:
    run = sie_server("serve", "--help", SIE_API_KEYS=KEY)
    assert "SIE_API_KEYS" in run.stdout
    assert KEY not in run.stdout + run.stderr


def test_without_keys_every_authorization_is_welcome(api: httpx2.Client) -> None:
    for headers in ({}, bearer("whatever")):
        assert api.get("/v1/models", headers=headers).status_code == 200
