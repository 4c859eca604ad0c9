"""Pinecone's answer: `data` with `values`."""

from typing import Literal

from msgspec import Struct

from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.vectors import values


class PineconeVector(Struct, gc=False):
    values: list[float] | str
    vector_type: Literal["dense"] = "dense"


class PineconeTokens(Struct):
    total_tokens: int


class PineconeVectors(Struct):
    model: str
    data: list[PineconeVector]
    usage: PineconeTokens
    vector_type: Literal["dense"] = "dense"


def _pinecone(embedded: Embedded) -> Written:
    vectors = (PineconeVector(values(embedded, index, vector)) for index, vector in embedded.outputs())
    return Written(PineconeVectors(embedded.model, [], PineconeTokens(embedded.tokens)), "data", vectors)


PINECONE = EmbedDialect("pinecone", _pinecone, PineconeVectors, "inputs")
