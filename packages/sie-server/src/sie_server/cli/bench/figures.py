"""The figures that `sie-server bench` reports."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Median, least and most of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Summary":
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Peer:
    """sentence-transformers with its defaults, in float32. times_slower: against us, round by round."""

    documents_per_s: Summary
    times_slower: Summary


@dataclass(frozen=True)
class InProcess:
    """The engine without HTTP. share_of_peak: useful operations per second over those of a large
    product, the best of one per round."""

    documents_per_s: Summary
    tokens_per_s: Summary
    share_of_peak: Summary


@dataclass(frozen=True)
class Served:
    """Through a server of its own process. latency_ms: of a request of 20 documents, on the client's clock.

    overhead_ms: of that what is not inference, round trip included. together_ms: of such a request when 8 clients send
    theirs at once.
    """

    documents_per_s: Summary
    latency_ms: dict[str, float]
    overhead_ms: dict[str, float]
    together_ms: dict[str, float]


@dataclass(frozen=True)
class Figures:
    """All of them. peer_skipped: why there is no peer."""

    model: str
    device: str
    precision: str
    threads: int
    documents: int
    tokens: int
    padded_tokens: int
    peak_gflops: float
    in_process: InProcess
    peer: Peer | None
    peer_skipped: str | None
    served: Served
