"""The answer of Weaviate's `reranker-transformers`: `scores` with the documents."""

from msgspec import Struct

from sie_server.api.dialects.dialect import Dialect, Ranked, Written


class WeaviateScore(Struct, gc=False):
    document: str
    score: float


class WeaviateScores(Struct):
    scores: list[WeaviateScore]


def _weaviate(ranked: Ranked) -> Written:
    scores = (WeaviateScore(text, score) for _, score, text, _ in ranked.results())
    return Written(WeaviateScores([]), "scores", scores)


WEAVIATE = Dialect("weaviate", _weaviate, WeaviateScores, plain_errors=True)
