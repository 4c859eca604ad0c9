"""NVIDIA NIM's answer: `rankings` with logits."""

from msgspec import Struct

from sie_server.api.dialects.cohere import RankingUsage, usage
from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class NimRanking(Struct, gc=False):
    index: int
    logit: float


class NimRankings(Struct):
    rankings: list[NimRanking]
    usage: RankingUsage


def _nim(ranked: Ranked) -> Written:
    rankings = (NimRanking(index, score) for index, score, _, _ in ranked.results())
    return Written(NimRankings([], usage(ranked)), "rankings", rankings)


NIM = Dialect("nim", _nim, NimRankings, scores="raw")
