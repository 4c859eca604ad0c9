"""Answers with `data` and `relevance_score`: Voyage's and Fireworks'."""

from typing import Literal

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


VOYAGE = Dialect("voyage", _voyage, VoyageResults, busy=429)
FIREWORKS = Dialect("fireworks", _voyage, VoyageResults, give_back=True)
