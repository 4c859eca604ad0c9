"""SGLang's answer: a bare list, as TEI's with other keys."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class SglangRank(Struct, gc=False):
    score: float
    index: int
    meta_info: dict[str, Any]
    document: str | UnsetType = UNSET


class SglangRanks(Struct):
    results: list[SglangRank] = field(default_factory=list)


def _sglang(ranked: Ranked) -> Written:
    return Written(
        SglangRanks(),
        "results",
        (
            SglangRank(score, index, {}, text if ranked.give_back else UNSET)
            for index, score, text, _ in ranked.results()
        ),
    )


SGLANG = Dialect("sglang", _sglang, SglangRanks, bare=True, give_back=True)
