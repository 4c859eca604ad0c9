"""Answers of the APIs that have their results in `data`: Voyage, Mixedbread, Pinecone; and vLLM's scores."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from sie_server.api.dialects.cohere import RankingUsage, usage
from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class VoyageResult(Struct, gc=False):
    index: int
    relevance_score: float
    document: str | UnsetType = UNSET


class VoyageResults(Struct):
    model: str
    data: list[VoyageResult]
    usage: RankingUsage
    object: Literal["list"] = "list"


def _voyage(ranked: Ranked) -> Written:
    results = (
        VoyageResult(index, score, text if ranked.give_back else UNSET) for index, score, text, _ in ranked.results()
    )
    return Written(VoyageResults(ranked.model, [], usage(ranked)), "data", results)


class MixedbreadResult(Struct, gc=False):
    index: int
    score: float
    input: Any = UNSET
    object: Literal["rank_result"] = "rank_result"


class MixedbreadResults(Struct):
    usage: RankingUsage
    model: str
    data: list[MixedbreadResult]
    top_k: int
    return_input: bool
    object: Literal["list"] = "list"


def _mixedbread(ranked: Ranked) -> Written:
    results = (
        MixedbreadResult(index, score, given if ranked.give_back else UNSET)
        for index, score, _, given in ranked.results()
    )
    body = MixedbreadResults(usage(ranked), ranked.model, [], len(ranked.order), ranked.give_back)
    return Written(body, "data", results)


class PineconeResult(Struct, gc=False):
    index: int
    score: float
    document: dict[str, Any] | UnsetType = UNSET


class PineconeUsage(Struct):
    rerank_units: int


class PineconeResults(Struct):
    model: str
    data: list[PineconeResult]
    usage: PineconeUsage


def _pinecone(ranked: Ranked) -> Written:
    def document(text: str, given: Any) -> dict[str, Any] | UnsetType:
        if not ranked.give_back:
            return UNSET
        return given if isinstance(given, dict) else {"text": text}

    results = (PineconeResult(index, score, document(text, given)) for index, score, text, given in ranked.results())
    body = PineconeResults(ranked.model, [], PineconeUsage(-(-len(ranked.scores) // 100)))
    return Written(body, "data", results)


class PairScore(Struct, gc=False):
    index: int
    score: float
    object: Literal["score"] = "score"


class PairScores(Struct):
    id: str
    created: int
    model: str
    data: list[PairScore]
    usage: RankingUsage
    object: Literal["list"] = "list"


def _scores(ranked: Ranked) -> Written:
    scores = (PairScore(index, score) for index, score in enumerate(ranked.scores))
    return Written(PairScores(f"score-{ranked.id}", ranked.created, ranked.model, [], usage(ranked)), "data", scores)


VOYAGE = Dialect("voyage", _voyage, VoyageResults, busy=429)
MIXEDBREAD = Dialect("mixedbread", _mixedbread, MixedbreadResults)
PINECONE = Dialect("pinecone", _pinecone, PineconeResults, give_back=True)
SCORES = Dialect("vllm", _scores, PairScores, in_order=True, busy=429)
