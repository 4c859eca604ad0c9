"""Mixedbread's answer: `data` with `score`."""

from typing import Any, Literal

from msgspec import UNSET, Struct

from sie_server.api.dialects.cohere import RankingUsage, usage
from sie_server.api.dialects.dialect import Dialect, Ranked, Written


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


MIXEDBREAD = Dialect("mixedbread", _mixedbread, MixedbreadResults)
