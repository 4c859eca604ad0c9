"""Every Prometheus metric of the server, declared once. docs/metrics.md is written from here, by `make docs`."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_LAG_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What a request is counted for that names none of this server's models, or comes to none of its routes: a label has no
# more values than the server has models and routes, whatever clients send.
UNKNOWN = "unknown"


class Metrics:
    """The metrics of one server process, in a registry of their own.

    `refreshing` has what is called before they are rendered, to set those that are read off rather than counted.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.refreshing: list[Callable[[], None]] = []

        # Requests
        self.requests = Counter("sie_requests", "Requests answered", ["model", "endpoint", "status"], registry=registry)
        self.errors = Counter(
            "sie_errors",
            "Error answers of /v1/*, by error code, or HTTP_<status> if there is none",
            ["model", "endpoint", "code"],
            registry=registry,
        )
        self.duration = Histogram(
            "sie_request_duration_seconds",
            "Time per request and phase (total, queue, tokenize, inference, postprocess)",
            ["model", "endpoint", "phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_progress = Gauge("sie_requests_in_progress", "Requests to /v1/* in progress", registry=registry)
        self.body_bytes = Gauge(
            "sie_request_body_bytes",
            "Bytes in the bodies of unanswered requests, including bodies that are still arriving",
            registry=registry,
        )
        self.refused_connections = Counter(
            "sie_connections_refused",
            "Connections closed because of a limit, by error code",
            ["code"],
            registry=registry,
        )
        self.disconnects = Counter(
            "sie_disconnects",
            "Requests whose client disconnected before the answer; their status is 499",
            ["model", "endpoint"],
            registry=registry,
        )
        self.tokens = Counter(
            "sie_tokens_processed", "Tokens of answered sequences, as usage counts them", ["model"], registry=registry
        )

        # Queue
        self.queue_depth = Gauge("sie_queue_depth", "Tokens waiting for the device", registry=registry)
        self.queue_tokens = Gauge(
            "sie_queue_tokens", "Tokens waiting for the device, by model in memory", ["model"], registry=registry
        )
        self.queue_limit = Gauge(
            "sie_queue_limit_tokens", "Tokens that may wait before requests get QUEUE_FULL", registry=registry
        )

        # Batches
        self.batch_size = Histogram(
            "sie_batch_size", "Sequences per batch", ["model"], buckets=_SEQUENCES, registry=registry
        )
        self.batch_tokens = Histogram(
            "sie_batch_tokens", "Tokens per batch, none of them padding", ["model"], buckets=_TOKENS, registry=registry
        )
        self.batch_seconds = Histogram(
            "sie_batch_duration_seconds", "Device time per batch", ["model"], buckets=_SECONDS, registry=registry
        )
        self.batch_budget = Gauge("sie_batch_budget_tokens", "The most tokens in a batch", registry=registry)
        self.padding_avoided = Counter(
            "sie_padding_avoided_tokens",
            "Tokens that padding each batch to its longest sequence would have added",
            ["model"],
            registry=registry,
        )

        # Work that was not done, and memory that ran out
        self.cancelled = Counter(
            "sie_cancelled_sequences",
            "Sequences that were never computed (gone: the client disconnected; deadline: the deadline had passed; "
            "failed: another part of the request failed)",
            ["model", "reason"],
            registry=registry,
        )
        self.oom_recoveries_attempted = Counter(
            "sie_oom_recoveries_attempted", "Batches that did not fit into memory", registry=registry
        )
        self.oom_recoveries_succeeded = Counter(
            "sie_oom_recoveries_succeeded", "Such batches that were computed after all", registry=registry
        )
        self.oom_terminal_failures = Counter(
            "sie_oom_terminal_failures", "Parts of such batches that failed", registry=registry
        )
        self.oom_cache_clears = Counter("sie_oom_cache_clears", "Times the cache was emptied", registry=registry)
        self.oom_batch_splits = Counter("sie_oom_batch_splits", "Times a batch was halved", registry=registry)

        # Tokenizer
        self.words = Counter(
            "sie_tokenizer_words",
            "Words whose ids were known (hit) or not (miss), for tokenizers that read words one by one",
            ["model", "result"],
            registry=registry,
        )
        self.words_known = Gauge(
            "sie_tokenizer_known_words", "Words whose ids a tokenizer remembers", ["model"], registry=registry
        )

        # Models
        self.loaded = Gauge("sie_model_loaded", "1 while a model is in memory", ["model", "device"], registry=registry)
        self.memory = Gauge(
            "sie_model_memory_bytes",
            "Bytes of a model's weights, 0 once it is unloaded",
            ["model", "device"],
            registry=registry,
        )
        self.idle_evictions = Counter(
            "sie_idle_evictions", "Models unloaded because they were idle", ["model"], registry=registry
        )
        self.models = Gauge("sie_models", "Models of this server by state", ["state"], registry=registry)
        self.load_seconds = Histogram(
            "sie_model_load_duration_seconds",
            "Time per successful load, without its download; its count is the number of loads",
            ["model"],
            buckets=_LOAD_SECONDS,
            registry=registry,
        )
        self.load_failures = Counter(
            "sie_model_load_failures",
            "Failed loads and downloads, by class (GATED, NOT_FOUND, CONFIG, …)",
            ["model", "error_class"],
            registry=registry,
        )

        # Server
        self.ready = Gauge("sie_ready", "1 while /readyz answers 200: every preload is in memory", registry=registry)
        self.loop_lag = Histogram(
            "sie_event_loop_lag_seconds",
            "Delay of the event loop, measured four times a second",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        self.device_threads = Gauge("sie_device_threads", "Threads that run batches", ["device"], registry=registry)
        self.device_busy = Counter(
            "sie_device_busy_seconds",
            "Time device threads spent in batches, summed over threads",
            ["device"],
            registry=registry,
        )
        self.device_memory = Gauge(
            "sie_device_memory_bytes", "Memory of a CUDA device (used, total)", ["device", "kind"], registry=registry
        )
        # process_resident_memory_bytes, process_start_time_seconds and their like, under the names of all exporters.
        self.process = ProcessCollector(registry=registry)

    def observe_batch(self, model_id: str, lengths: list[int], seconds: float) -> None:
        """Count a batch that was computed, of sequences of so many tokens."""
        tokens = sum(lengths)
        self.tokens.labels(model_id).inc(tokens)
        self.batch_size.labels(model_id).observe(len(lengths))
        self.batch_tokens.labels(model_id).observe(tokens)
        self.batch_seconds.labels(model_id).observe(seconds)
        self.padding_avoided.labels(model_id).inc(max(lengths) * len(lengths) - tokens)

    def render(self) -> bytes:
        """The exposition format that `GET /metrics` returns."""
        for refresh in self.refreshing:
            refresh()
        return generate_latest(self.registry)
