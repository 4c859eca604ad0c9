"""Every Prometheus metric of the server, declared once."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one server process, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("sie_requests", "Requests answered", ["model", "endpoint", "status"], registry=registry)
        self.duration = Histogram(
            "sie_request_duration_seconds",
            "Time per request and phase (total, queue, tokenize, inference)",
            ["model", "endpoint", "phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "sie_batch_size", "Sequences per batch", ["model"], buckets=_SEQUENCES, registry=registry
        )
        self.batch_tokens = Histogram(
            "sie_batch_tokens", "Tokens per batch, none of them padding", ["model"], buckets=_TOKENS, registry=registry
        )
        self.batch_seconds = Histogram(
            "sie_batch_duration_seconds", "Device time per batch", ["model"], buckets=_SECONDS, registry=registry
        )
        self.tokens = Counter(
            "sie_tokens_processed", "Tokens of answered sequences, as usage counts them", ["model"], registry=registry
        )
        self.cancelled = Counter(
            "sie_cancelled_sequences",
            "Sequences that were never computed (gone: the client went away; deadline: its time was over; failed: "
            "another part of the request was)",
            ["model", "reason"],
            registry=registry,
        )
        self.oom_recoveries_attempted = Counter(
            "sie_oom_recoveries_attempted", "Batches that did not fit into memory", registry=registry
        )
        self.oom_recoveries_succeeded = Counter(
            "sie_oom_recoveries_succeeded", "Such batches that were computed all the same", registry=registry
        )
        self.oom_terminal_failures = Counter(
            "sie_oom_terminal_failures", "Parts of such batches that were given up", registry=registry
        )
        self.oom_cache_clears = Counter("sie_oom_cache_clears", "Times that the cache was emptied", registry=registry)
        self.oom_batch_splits = Counter("sie_oom_batch_splits", "Times that a batch was halved", registry=registry)
        self.queue_depth = Gauge("sie_queue_depth", "Tokens waiting for the device", registry=registry)
        self.loaded = Gauge("sie_model_loaded", "1 while a model is in memory", ["model", "device"], registry=registry)
        self.memory = Gauge(
            "sie_model_memory_bytes", "Bytes of a model's weights", ["model", "device"], registry=registry
        )

    def render(self) -> bytes:
        """The exposition format that `GET /metrics` returns."""
        return generate_latest(self.registry)
