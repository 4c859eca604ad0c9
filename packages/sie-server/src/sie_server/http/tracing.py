"""OpenTelemetry traces: a span per request, with a child span per stage. Needs the extra `tracing`.

Spans are created after the response, from recorded times, so that they cost a request next to nothing.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sie_server import __version__
from sie_server.request_context import RequestContext, Stage

_CLOSE_S = 2.0


class Traces:
    """The traces of one server. Continues the trace of a client's `traceparent` (W3C Trace Context)."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("sie_server", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Mapping[str, str], request: RequestContext, started: float) -> "Trace":
        """Begin the trace of a request and store its id there. started: `time.perf_counter()`."""
        return Trace(self._tracer, self._propagator.extract(headers), request, started)

    def close(self) -> None:
        """Export remaining spans, for at most 2 s: without a collector the exporter would retry for longer."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)


class Trace:
    """The spans of one request."""

    def __init__(self, tracer: trace.Tracer, parent: Context, request: RequestContext, started: float) -> None:
        self._tracer = tracer
        self._request = request
        # Offset from `time.perf_counter()` to wall-clock time.
        self._epoch_ns = time.time_ns() - int(time.perf_counter() * 1e9)
        self._span = tracer.start_span("request", parent, SpanKind.SERVER, start_time=self._ns(started))
        request.trace_id = trace.format_trace_id(self._span.get_span_context().trace_id)
        if self._span.is_recording():
            request.stages = []

    def end(self, method: str, route: str, status: int, ended: float) -> None:
        """Record the spans of a request that was answered. ended: `time.perf_counter()`."""
        span, request = self._span, self._request
        self._add(request.stages or (), span)
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "sie.request_id": request.request_id,
                "sie.model": request.model,
            }
        )
        if request.tokens is not None:
            span.set_attribute("sie.tokens", request.tokens)
        if request.code is not None:
            span.set_attribute("error.type", request.code)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(self._ns(ended))

    def _add(self, stages: Iterable[Stage], parent: Span) -> None:
        inside = trace.set_span_in_context(parent)
        for stage in stages:
            started = self._ns(stage.started)
            span = self._tracer.start_span(stage.name, inside, attributes=stage.attributes, start_time=started)
            self._add(stage.parts, span)
            span.end(self._ns(stage.ended))

    def _ns(self, moment: float) -> int:
        return self._epoch_ns + int(moment * 1e9)


def exporting() -> TracerProvider:
    """A provider that exports over OTLP/HTTP, configured by the variables OTEL_EXPORTER_OTLP_ENDPOINT, …"""
    name = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "sie-server"}
    resource = Resource.create({"service.version": __version__, **name})
    provider = TracerProvider(shutdown_on_exit=False, resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
