"""ZeroEntropy's answer: `results`, with latencies and sizes."""

from typing import Literal

from msgspec import Struct

from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class ZeroEntropyResult(Struct, gc=False):
    index: int
    relevance_score: float


class ZeroEntropyResults(Struct):
    results: list[ZeroEntropyResult]
    actual_latency_mode: Literal["fast", "slow"]
    e2e_latency: float
    inference_latency: float
    total_bytes: int
    total_tokens: int


def _zeroentropy(ranked: Ranked) -> Written:
    results = (ZeroEntropyResult(index, score) for index, score, _, _ in ranked.results())
    size = sum(len(text.encode()) for text in (*ranked.request.documents, *ranked.request.queries))
    mode: Literal["fast", "slow"] = "slow" if ranked.request.latency == "slow" else "fast"
    body = ZeroEntropyResults([], mode, ranked.seconds, ranked.seconds, size, ranked.tokens)
    return Written(body, "results", results)


ZEROENTROPY = Dialect("zeroentropy", _zeroentropy, ZeroEntropyResults)
