"""How long a request took, for the metrics, the headers and the body of its answer."""

import time

from sie_server import wire
from sie_server.engine.results import Timing
from sie_server.metrics import Metrics
from sie_server.request_context import Stage, current_request, record


def observe(
    metrics: Metrics, model_id: str, endpoint: str, started: float, done: float, timing: Timing, tokens: int
) -> dict[str, str]:
    """Count the phases of a request that is answered now, and name them in headers, in milliseconds.

    started, done: `time.perf_counter()` when it came in and when the engine was through with it. tokens: its usage.
    """
    now = time.perf_counter()
    current_request().tokens = tokens
    record(Stage("postprocess", done, now))
    phases = {
        "total": now - started,
        "queue": timing.queue,
        "tokenize": timing.tokenization,
        "inference": timing.inference,
        "postprocess": now - done,
    }
    for phase, seconds in phases.items():
        metrics.duration.labels(model_id, endpoint, phase).observe(seconds)
    return {
        "X-Total-Time": _ms(now - started),
        "X-Queue-Time": _ms(timing.queue),
        "X-Tokenization-Time": _ms(timing.tokenization),
        "X-Inference-Time": _ms(timing.inference),
        "X-Postprocessing-Time": _ms(now - done),
    }


def in_body(started: float, done: float, timing: Timing) -> wire.Timing:
    """The same, up to now, for the body of an answer."""
    now = time.perf_counter()
    return wire.Timing(
        total_ms=(now - started) * 1e3,
        queue_ms=timing.queue * 1e3,
        tokenization_ms=timing.tokenization * 1e3,
        inference_ms=timing.inference * 1e3,
        postprocessing_ms=(now - done) * 1e3,
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"
