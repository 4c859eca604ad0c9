"""Isaacus's answer: `results` with `score`."""

from msgspec import Struct

from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class IsaacusResult(Struct, gc=False):
    index: int
    score: float


class IsaacusUsage(Struct):
    input_tokens: int


class IsaacusResults(Struct):
    results: list[IsaacusResult]
    usage: IsaacusUsage


def _isaacus(ranked: Ranked) -> Written:
    results = (IsaacusResult(index, score) for index, score, _, _ in ranked.results())
    return Written(IsaacusResults([], IsaacusUsage(ranked.tokens)), "results", results)


ISAACUS = Dialect("isaacus", _isaacus, IsaacusResults)
