"""infinity's answer: `results`, with documents as strings."""

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


INFINITY = Dialect("infinity", _infinity, InfinityResults)
