"""Durations of a request, for the metrics, the headers and the body of its answer."""

import time

from sie_server import wire
from sie_server.engine.results import Timing
from sie_server.metrics import Metrics
from sie_server.request_context import Stage, current_request, record


def observe(metrics: Metrics, model_id: str, done: float, timing: Timing, tokens: int) -> dict[str, str]:
    """Count the phases of the current request, which is answered now; returns their headers, in milliseconds.

    done: `time.perf_counter()` when the engine had finished. tokens: its usage.
    """
    now = time.perf_counter()
    context = current_request()
    context.tokens = tokens
    record(Stage("postprocess", done, now))
    phases = {
        "total": now - context.started,
        "queue": timing.queue,
        "tokenize": timing.tokenization,
        "inference": timing.inference,
        "postprocess": now - done,
    }
    metrics.observe_request(model_id, context.endpoint, phases)
    return {
        "X-Total-Time": _ms(now - context.started),
        "X-Queue-Time": _ms(timing.queue),
        "X-Tokenization-Time": _ms(timing.tokenization),
        "X-Inference-Time": _ms(timing.inference),
        "X-Postprocessing-Time": _ms(now - done),
    }


def in_body(done: float, timing: Timing) -> wire.Timing:
    """The durations up to now, for the body of an answer."""
    now = time.perf_counter()
    return wire.Timing(
        total_ms=(now - current_request().started) * 1e3,
        queue_ms=timing.queue * 1e3,
        tokenization_ms=timing.tokenization * 1e3,
        inference_ms=timing.inference * 1e3,
        postprocessing_ms=(now - done) * 1e3,
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"
