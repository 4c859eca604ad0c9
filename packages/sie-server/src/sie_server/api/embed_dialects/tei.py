"""Answers of TEI (text-embeddings-inference): a bare list of vectors, of token weights, or of token vectors."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from msgspec import Struct, field

from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.vectors import values
from sie_server.api.responses import check_finite


class TokenWeight(Struct, gc=False):
    """`index`: id of a token."""

    index: int
    value: float


class Vectors(Struct):
    vectors: list[list[float]] = field(default_factory=list)


class SparseVectors(Struct):
    vectors: list[list[TokenWeight]] = field(default_factory=list)


class TokenVectors(Struct):
    vectors: list[list[list[float]]] = field(default_factory=list)


def _embed(embedded: Embedded) -> Written:
    vectors = (values(embedded, index, vector) for index, vector in embedded.outputs())
    return Written(Vectors(), "vectors", vectors)


def _embed_sparse(embedded: Embedded) -> Written:
    def weights(index: int, found: Any) -> Iterator[TokenWeight]:
        ids, numbers = found
        check_finite(numbers, f"{embedded.field}[{index}]")
        return map(TokenWeight, ids.tolist(), numbers.tolist())

    return Written(SparseVectors(), "vectors", ([*weights(*each)] for each in embedded.outputs()))


def _embed_all(embedded: Embedded) -> Written:
    return Written(TokenVectors(), "vectors", token_vectors(embedded))


def token_vectors(embedded: Embedded) -> Iterator[Any]:
    """The vectors of the tokens of each text, float32 `[tokens, dimensions]`."""
    for index, rows in embedded.outputs():
        check_finite(rows, f"{embedded.field}[{index}]")
        yield rows


EMBED = EmbedDialect("tei", _embed, Vectors, "inputs", bare=True, plain_errors=True, busy=429)
EMBED_SPARSE = replace(EMBED, write=_embed_sparse, body=SparseVectors, output="sparse")
EMBED_ALL = replace(EMBED, write=_embed_all, body=TokenVectors, output="multivector")
