"""Pinecone's answer: `data` with `score`, and documents as objects."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from sie_server.api.dialects.dialect import Dialect, Ranked, Written


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


PINECONE = Dialect("pinecone", _pinecone, PineconeResults, give_back=True)
