"""Traces: the spans of a request, whose trace they are in, and that a server without them imports nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from sie_server.http.tracing import Traces
from sie_testing.serving import connect, in_process, poll

BODY = {"query": {"text": "w1"}, "items": [{"text": f"w{i} w4 w5"} for i in range(40)]}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Traced:
    """A traced server."""

    def __init__(self, api: httpx2.Client, exporter: InMemorySpanExporter) -> None:
        self._api, self._exporter = api, exporter

    def ask(self, path: str, body: Any, **headers: str) -> tuple[httpx2.Response, dict[str, list[ReadableSpan]]]:
        """The answer, and its spans by name."""
        self._exporter.clear()
        answer = self._api.post(path, json=body, headers=headers)
        poll(lambda: any(span.kind == SpanKind.SERVER for span in self._exporter.get_finished_spans()))
        spans: dict[str, list[ReadableSpan]] = {}
        for span in self._exporter.get_finished_spans():
            spans.setdefault(span.name, []).append(span)
        return answer, spans

    def spans(self) -> int:
        return len(self._exporter.get_finished_spans())


@pytest.fixture(scope="module")
def traced(models: Path) -> Iterator[Traced]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = Traces(provider)
    with (
        in_process(model=(str(models / "bert"),), traces=traces, workers=1, batch_tokens=64) as running,
        connect(running.url) as api,
    ):
        yield Traced(api, exporter)
    assert exporter._stopped, "a server that stops closes its traces"


def test_a_span_for_each_stage(traced: Traced) -> None:
    answer, spans = traced.ask("/v1/score/bert", BODY, **{"X-Request-ID": "mine-1"})
    [whole] = spans.pop("POST /v1/score/{model}")
    assert whole.parent is None
    assert answer.headers["x-trace-id"] == f"{whole.context.trace_id:032x}"
    tokens = answer.json()["usage"]["input_tokens"]
    assert dict(whole.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/score/{model}",
        "http.response.status_code": 200,
        "sie.request_id": "mine-1",
        "sie.model": "bert",
        "sie.tokens": tokens,
    }
    batches = spans.pop("batch")
    assert list(spans) == ["decode", "load", "tokenize", "queue", "inference", "postprocess", "encode"]
    starts = [whole.start_time]
    for [span] in spans.values():
        assert span.parent == whole.context
        assert whole.start_time <= span.start_time <= span.end_time <= whole.end_time
        starts.append(span.start_time)
    assert starts == sorted(starts)
    [inference] = spans["inference"]
    assert dict(inference.attributes or {}) == {"sie.batches": len(batches), "sie.tokens": tokens, "sie.sequences": 40}
    assert sum(batch.attributes["sie.tokens"] for batch in batches) == tokens
    assert len(batches) > 1
    for batch in batches:
        assert batch.parent == inference.context
        assert inference.start_time <= batch.start_time <= batch.end_time <= inference.end_time


def test_the_trace_of_the_client_goes_on(traced: Traced) -> None:
    answer, spans = traced.ask("/v1/score/bert", BODY, traceparent=f"00-{TRACE}-{PARENT}-01")
    [whole] = spans["POST /v1/score/{model}"]
    assert answer.headers["x-trace-id"] == f"{whole.context.trace_id:032x}" == TRACE
    assert f"{whole.parent.span_id:016x}" == PARENT
    assert {span.context.trace_id for each in spans.values() for span in each} == {int(TRACE, 16)}


def test_a_trace_that_the_client_does_not_keep_is_not_kept(traced: Traced) -> None:
    traced.ask("/v1/score/bert", BODY)
    before = traced.spans()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    answer = traced._api.post("/v1/score/bert", json=BODY, headers=headers)
    assert (answer.status_code, answer.headers["x-trace-id"]) == (200, TRACE)
    assert traced.spans() == before


@pytest.mark.parametrize("given", ["nonsense", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01"])
def test_an_invalid_traceparent_is_ignored(traced: Traced, given: str) -> None:
    answer, spans = traced.ask("/v1/score/bert", BODY, traceparent=given)
    [whole] = spans["POST /v1/score/{model}"]
    assert whole.parent is None
    assert answer.headers["x-trace-id"] == f"{whole.context.trace_id:032x}" != TRACE


def test_other_dialects_have_the_stages_of_a_score(traced: Traced) -> None:
    _, spans = traced.ask("/v1/rerank", {"model": "bert", "query": "w1", "documents": ["w2 w3"]})
    assert set(spans) >= {"POST /v1/rerank", "decode", "load", "tokenize", "queue", "inference", "postprocess"}


def test_errors_are_marked(traced: Traced) -> None:
    answer, spans = traced.ask("/v1/score/xyzzy", BODY)
    [whole] = spans.pop("POST /v1/score/{model}")
    assert (answer.status_code, list(spans)) == (404, ["decode"])
    assert whole.attributes["error.type"] == "MODEL_NOT_FOUND"
    assert (whole.attributes["sie.model"], whole.status.status_code) == ("unknown", StatusCode.UNSET)
    assert "x-trace-id" in answer.headers


def test_a_server_without_traces_imports_nothing_for_them_and_without_the_extra_refuses_the_flag() -> None:
    program = """
import sys
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    import sie_server.server
assert "opentelemetry" not in sys.modules
sys.modules["opentelemetry"] = None
from sie_server.cli.main import app
app.meta(["serve", "--port=0", "--tracing"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "--tracing needs opentelemetry: pip install opentelemetry-sdk opentelemetry-exporter-otlp" in done.stderr
    assert "'./packages/sie-server[tracing]'" in done.stderr
