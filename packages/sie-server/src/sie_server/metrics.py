"""All Prometheus metrics of the server. `make docs` generates docs/metrics.md from them."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_LAG_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Label of requests for unknown models or routes, so that clients cannot create label values.
UNKNOWN = "unknown"


class Series:
    """Observed values of one metric and its labels, in buckets. Only one thread observes at a time."""

    __slots__ = ("_bounds", "counts", "created", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.created = time.time()

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class Histogram(Collector):
    """A histogram as the client library's, which takes two locks per value and reads its buckets in turn.

    A request has a dozen values.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._family = partial(HistogramMetricFamily, name, documentation, labels=labels)
        self.label_names = labels
        self._bounds = [float(bound) for bound in buckets]
        self._series: dict[tuple[str, ...], Series] = {}
        if not labels:
            self.labels()
        registry.register(self)

    def labels(self, *values: str) -> Series:
        """The series with these values of the labels."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Series(self._bounds)
        return series

    def observe(self, value: float) -> None:
        """Count a value of a metric without labels."""
        self.labels().observe(value)

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """The metric without values."""
        yield self._family()

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The metric."""
        family = self._family()
        names = [floatToGoString(bound) for bound in (*self._bounds, math.inf)]  # type: ignore[no-untyped-call]
        for values, series in [*self._series.items()]:
            sums = zip(names, accumulate(map(float, series.counts)), strict=True)
            family.add_metric(values, [*sums], series.sum)
            labels = dict(zip(self.label_names, values, strict=True))
            family.add_sample(f"{family.name}_created", labels, series.created)
        yield family


class _ModelBatches(NamedTuple):
    """Metrics of one model's batches: to find them by their labels takes as long as to count."""

    tokens: Counter
    padding_avoided: Counter
    size: Series
    size_tokens: Series
    seconds: Series


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
        self._durations: dict[tuple[str, str], dict[str, Series]] = {}

        # Requests
        self.requests = counter("sie_requests", "Requests answered", ["model", "endpoint", "status"])
        self.errors = counter(
            "sie_errors",
            "Error answers of API routes, by error code, or HTTP_<status> if there is none",
            ["model", "endpoint", "code"],
        )
        self.duration = histogram(
            "sie_request_duration_seconds",
            "Time per request and phase (total, queue, tokenize, inference, postprocess)",
            ["model", "endpoint", "phase"],
            buckets=_SECONDS,
        )
        self.in_progress = gauge("sie_requests_in_progress", "Requests to API routes in progress")
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
        self.queue_seconds = gauge(
            "sie_queue_seconds",
            "Seconds that the device needs for the waiting tokens, by model in memory, at the rates measured so far",
            ["model"],
        )
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
        self.ready = gauge(
            "sie_ready", "1 while /readyz answers 200: every preload is in memory, and it does not drain"
        )
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
