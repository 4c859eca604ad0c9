"""Answers with containers of their own: infinity, NVIDIA NIM, ZeroEntropy and Weaviate."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from sie_server.api.dialects.cohere import RankingUsage, usage
from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class InfinityResult(Struct, gc=False):
    relevance_score: float
    index: int
    document: str | UnsetType = UNSET


class InfinityResults(Struct):
    results: list[InfinityResult]
    model: str
    usage: RankingUsage
    id: str
    created: int
    object: Literal["rerank"] = "rerank"


def _infinity(ranked: Ranked) -> Written:
    results = (
        InfinityResult(score, index, text if ranked.give_back else UNSET) for index, score, text, _ in ranked.results()
    )
    body = InfinityResults([], ranked.model, usage(ranked), f"infinity-{ranked.id}", ranked.created)
    return Written(body, "results", results)


class NimRanking(Struct, gc=False):
    index: int
    logit: float


class NimRankings(Struct):
    rankings: list[NimRanking]
    usage: RankingUsage


def _nim(ranked: Ranked) -> Written:
    rankings = (NimRanking(index, score) for index, score, _, _ in ranked.results())
    return Written(NimRankings([], usage(ranked)), "rankings", rankings)


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


class XinferenceAuth(Struct):
    """Whether requests need a key."""

    auth: bool


class WeaviateScore(Struct, gc=False):
    document: str
    score: float


class WeaviateScores(Struct):
    scores: list[WeaviateScore]


def _weaviate(ranked: Ranked) -> Written:
    scores = (WeaviateScore(text, score) for _, score, text, _ in ranked.results())
    return Written(WeaviateScores([]), "scores", scores)


INFINITY = Dialect("infinity", _infinity, InfinityResults)
NIM = Dialect("nim", _nim, NimRankings, scores="raw")
ZEROENTROPY = Dialect("zeroentropy", _zeroentropy, ZeroEntropyResults)
WEAVIATE = Dialect("weaviate", _weaviate, WeaviateScores, plain_errors=True)
