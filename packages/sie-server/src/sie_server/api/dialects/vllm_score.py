"""The answer of vLLM's `/score`: a score for each pair, in the order of the request."""

from typing import Literal

from msgspec import Struct

from sie_server.api.dialects.cohere import RankingUsage, usage
from sie_server.api.dialects.dialect import Dialect, Ranked, Written


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


SCORES = Dialect("vllm", _scores, PairScores, in_order=True, busy=429)
