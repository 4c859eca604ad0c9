"""All Prometheus metrics of the server. `make docs` generates docs/metrics.md from them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_LAG_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Label of requests for unknown models or routes, so that clients cannot create label values.
UNKNOWN = "unknown"


class _ModelBatches(NamedTuple):
    """Metrics of one model's batches: to find them by their labels takes as long as to count."""

    tokens: Counter
    padding_avoided: Counter
    size: Histogram
    size_tokens: Histogram
    seconds: Histogram


class Metrics:
    """The metrics of one server process, in a registry of their own.

    `refreshing`: callbacks that update gauges before each scrape.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.refreshing: list[Callable[[], None]] = []
        self._of_models: dict[str, _ModelBatches] = {}
        self._durations: dict[tuple[str, str], dict[str, Histogram]] = {}

        # Requests
        self.requests = counter("sie_requests", "Requests answered", ["model", "endpoint", "status"])
        self.errors = counter(
            "sie_errors",
            "Error answers of /v1/*, by error code, or HTTP_<status> if there is none",
            ["model", "endpoint", "code"],
        )
        self.duration = histogram(
            "sie_request_duration_seconds",
            "Time per request and phase (total, queue, tokenize, inference, postprocess)",
            ["model", "endpoint", "phase"],
            buckets=_SECONDS,
        )
        self.in_progress = gauge("sie_requests_in_progress", "Requests to /v1/* in progress")
        self.body_bytes = gauge(
            "sie_request_body_bytes",
            "Bytes in the bodies of unanswered requests, including bodies that are still arriving",
        )
        self.refused_connections = counter(
            "sie_connections_refused", "Connections closed because of a limit, by error code", ["code"]
        )
        self.disconnects = counter(
            "sie_disconnects",
            "Requests whose client disconnected before the answer; their status is 499",
            ["model", "endpoint"],
        )
        self.tokens = counter(
            "sie_tokens_processed",
            "Tokens that were computed; usage counts those of repeated documents too",
            ["model"],
        )

        # Queue
        self.queue_depth = gauge("sie_queue_depth", "Tokens waiting for the device")
        self.queue_tokens = gauge("sie_queue_tokens", "Tokens waiting for the device, by model in memory", ["model"])
        self.queue_limit = gauge("sie_queue_limit_tokens", "Tokens that may wait before requests get QUEUE_FULL")

        # Batches
        self.batch_size = histogram("sie_batch_size", "Sequences per batch", ["model"], buckets=_SEQUENCES)
        self.batch_tokens = histogram(
            "sie_batch_tokens", "Tokens per batch, none of them padding", ["model"], buckets=_TOKENS
        )
        self.batch_seconds = histogram(
            "sie_batch_duration_seconds", "Device time per batch", ["model"], buckets=_SECONDS
        )
        self.batch_budget = gauge("sie_batch_budget_tokens", "The most tokens in a batch")
        self.padding_avoided = counter(
            "sie_padding_avoided_tokens",
            "Tokens that padding each batch to its longest sequence would have added",
            ["model"],
        )

        # Work that was not needed
        self.repeated_documents = counter(
            "sie_repeated_documents",
            "Documents of score requests that were equal to another one of the same request, and not computed again",
            ["model"],
        )

        self.score_cache_texts = counter(
            "sie_score_cache_texts",
            "Distinct documents of score requests whose score was in the score cache (hit) or not (miss)",
            ["model", "result"],
        )
        self.score_cache_evictions = counter(
            "sie_score_cache_evictions", "Scores that were replaced by others in the score cache"
        )
        self.score_cache_entries = gauge("sie_score_cache_entries", "Scores in the score cache")
        self.score_cache_bytes = gauge("sie_score_cache_bytes", "Memory of the score cache (used, total)", ["kind"])

        # Work that was not done, and memory that ran out
        self.cancelled = counter(
            "sie_cancelled_sequences",
            "Sequences that were never computed (gone: the client disconnected; deadline: the deadline had passed; "
            "failed: another part of the request failed)",
            ["model", "reason"],
        )
        self.oom_recoveries_attempted = counter("sie_oom_recoveries_attempted", "Batches that did not fit into memory")
        self.oom_recoveries_succeeded = counter(
            "sie_oom_recoveries_succeeded", "Such batches that were computed after all"
        )
        self.oom_terminal_failures = counter("sie_oom_terminal_failures", "Parts of such batches that failed")
        self.oom_cache_clears = counter("sie_oom_cache_clears", "Times the cache was emptied")
        self.oom_batch_splits = counter("sie_oom_batch_splits", "Times a batch was halved")

        # Tokenizer
        self.words = counter(
            "sie_tokenizer_words",
            "Words whose ids were known (hit) or not (miss), for tokenizers that read words one by one",
            ["model", "result"],
        )
        self.words_known = gauge("sie_tokenizer_known_words", "Words whose ids a tokenizer remembers", ["model"])

        # Models
        self.loaded = gauge("sie_model_loaded", "1 while a model is in memory", ["model", "device"])
        self.memory = gauge(
            "sie_model_memory_bytes",
            "Bytes of a model's weights, 0 once it is unloaded; weights that models share count at one of them",
            ["model", "device"],
        )
        self.idle_evictions = counter("sie_idle_evictions", "Models unloaded because they were idle", ["model"])
        self.models = gauge("sie_models", "Models of this server by state", ["state"])
        self.load_seconds = histogram(
            "sie_model_load_duration_seconds",
            "Time per successful load, without its download; its count is the number of loads",
            ["model"],
            buckets=_LOAD_SECONDS,
        )
        self.load_failures = counter(
            "sie_model_load_failures",
            "Failed loads and downloads, by class (GATED, NOT_FOUND, CONFIG, …)",
            ["model", "error_class"],
        )

        # Server
        self.ready = gauge("sie_ready", "1 while /readyz answers 200: every preload is in memory")
        self.loop_lag = histogram(
            "sie_event_loop_lag_seconds", "Delay of the event loop, measured four times a second", buckets=_LAG_SECONDS
        )
        self.device_threads = gauge("sie_device_threads", "Threads that run batches", ["device"])
        self.device_busy = counter(
            "sie_device_busy_seconds", "Time device threads spent in batches, summed over threads", ["device"]
        )
        self.device_memory = gauge(
            "sie_device_memory_bytes", "Memory of a CUDA device (used, total)", ["device", "kind"]
        )
        # process_resident_memory_bytes, process_start_time_seconds and their like, under the names of all exporters.
        self.process = ProcessCollector(registry=registry)

    def observe_batch(self, model_id: str, lengths: list[int], seconds: float) -> None:
        """Count a computed batch. lengths: tokens of each sequence."""
        of_model = self._of_models.get(model_id)
        if of_model is None:
            of_model = self._of_models[model_id] = _ModelBatches(
                tokens=self.tokens.labels(model_id),
                padding_avoided=self.padding_avoided.labels(model_id),
                size=self.batch_size.labels(model_id),
                size_tokens=self.batch_tokens.labels(model_id),
                seconds=self.batch_seconds.labels(model_id),
            )
        tokens = sum(lengths)
        of_model.tokens.inc(tokens)
        of_model.padding_avoided.inc(max(lengths) * len(lengths) - tokens)
        of_model.size.observe(len(lengths))
        of_model.size_tokens.observe(tokens)
        of_model.seconds.observe(seconds)

    def observe_request(self, model_id: str, endpoint: str, phases: Mapping[str, float]) -> None:
        """Count an answered request. phases: seconds of each."""
        durations = self._durations.get((model_id, endpoint))
        if durations is None:
            durations = {phase: self.duration.labels(model_id, endpoint, phase) for phase in phases}
            self._durations[model_id, endpoint] = durations
        for phase, seconds in phases.items():
            durations[phase].observe(seconds)

    def render(self) -> bytes:
        """The exposition format that `GET /metrics` returns."""
        for refresh in self.refreshing:
            refresh()
        return generate_latest(self.registry)
