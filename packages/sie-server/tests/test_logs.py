"""The log: whose request a line is about, as text and as JSON, and what never gets into it."""

import asyncio
import json
import logging
import re
from contextlib import suppress
from pathlib import Path

import httpx2

from sie_server.http.request_log import RequestLogMiddleware
from sie_server.logs import JsonLines, Lines, _with_request_id
from sie_server.metrics import Metrics
from sie_server.request_context import CURRENT, RequestContext
from sie_testing.serving import Server, connect, poll

OPERATIONS = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
SECRET = "xyzzy-secret"
FORGED = 'x\n2026-01-01 INFO forged\r\x1b[2J\x85\u2028{"level": "info"}'


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("sie_server.x", logging.WARNING, "x.py", 1, message, (), None)
    made.__dict__.update(extra)
    assert _with_request_id(made)
    return made


def test_a_message_can_not_make_a_line_of_its_own() -> None:
    for line in (Lines().format(record(FORGED, model=FORGED)), JsonLines().format(record(FORGED, model=FORGED))):
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
    said = json.loads(JsonLines().format(record(FORGED, model=FORGED)))
    assert said["message"] == said["model"] == FORGED


def test_a_traceback_is_kept() -> None:
    try:
        raise ZeroDivisionError("by hand")
    except ZeroDivisionError as error:
        raised = record("failed", exc_info=(type(error), error, error.__traceback__))
    assert json.loads(JsonLines().format(raised))["exception"].endswith("ZeroDivisionError: by hand")
    assert Lines().format(raised).endswith("\nZeroDivisionError: by hand")


def test_a_line_has_the_id_of_its_request() -> None:
    before = CURRENT.set(RequestContext("r-1"))
    try:
        assert json.loads(JsonLines().format(record("here")))["request_id"] == "r-1"
        assert Lines().format(record("here")).endswith(" WARNING here request_id=r-1")
        # A device thread works for many requests, and says for which.
        assert json.loads(JsonLines().format(record("here", request_id="r-2")))["request_id"] == "r-2"
    finally:
        CURRENT.reset(before)
    assert "request_id" not in json.loads(JsonLines().format(record("here")))


async def _raise(*_: object) -> None:
    raise ZeroDivisionError


def test_what_a_request_raises_is_logged_with_its_id() -> None:
    async def answer() -> str | None:
        observed = RequestLogMiddleware(_raise, Metrics(), None, json_logs=False)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-id", b"r-3")]}
        with suppress(ZeroDivisionError):
            await observed(scope, _raise, _raise)  # type: ignore[arg-type]
        # uvicorn logs it here.
        return json.loads(JsonLines().format(record("Exception in ASGI application")))["request_id"]

    assert asyncio.run(answer()) == "r-3"


def ask(api: httpx2.Client) -> None:
    body = {"query": {"text": SECRET}, "items": [{"text": f"{SECRET} 1", "id": SECRET}]}
    headers = {"X-Request-ID": "mine-1", "Authorization": f"Bearer {SECRET}"}
    assert api.post("/v1/score/bert", json=body, headers=headers, params={"q": SECRET}).status_code == 200
    api.post(f"/v1/score/{SECRET}", json=body)
    api.post("/v1/score/bert", content=f'{{"query": {SECRET}')
    api.get(f"/{SECRET}")
    api.get("/healthz")
    api.post("/v1/encode/bert", json={"items": [{"text": SECRET}]}, headers={"X-Request-ID": f"{SECRET} x"})


def test_json_lines_of_a_server(models: Path) -> None:
    with (
        Server(f"--model={models / 'bert'}", "--log-level=info", environment={"SIE_LOG_JSON": "1"}) as server,
        connect(server.url) as api,
    ):
        ask(api)
        poll(lambda: server.log.count('"status":') >= 4)
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert SECRET not in server.log
    answered = [line for line in lines if "status" in line]
    assert [line["status"] for line in answered] == [200, 404, 400, 400]
    first = answered[0]
    [documented] = re.findall(r"```json\n(.*)\n```", OPERATIONS.read_text())
    assert list(json.loads(documented)) == list(first)
    assert first["ms"] > 0
    kept = {name: first[name] for name in ("level", "message", "request_id", "model", "route", "tokens")}
    assert kept == {
        "level": "info",
        "message": "POST /v1/score/{model}",
        "request_id": "mine-1",
        "model": "bert",
        "route": "/v1/score/{model}",
        "tokens": first["tokens"],
    }
    assert [line.get("code") for line in answered] == [None, "MODEL_NOT_FOUND", "INVALID_INPUT", "INVALID_INPUT"]
    assert answered[1]["model"] == "unknown"
    assert len({line["request_id"] for line in answered}) == 4


def test_text_lines_of_a_server(models: Path) -> None:
    with (
        Server(f"--model={models / 'bert'}", "--log-level", "debug") as server,
        connect(server.url) as api,
    ):
        ask(api)
        poll(lambda: server.log.count("status=") >= 6)
    assert SECRET not in server.log
    for said in (
        "POST /v1/score/{model} request_id=mine-1 model=bert",
        "GET /healthz request_id=",
        "GET unknown request",
    ):
        assert f" DEBUG {said}" in server.log
