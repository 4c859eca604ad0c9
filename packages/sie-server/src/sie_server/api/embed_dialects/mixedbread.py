"""Mixedbread's answer: OpenAI's, with what the vectors are, and with several forms of each if these are named."""

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from sie_server import wire
from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.fields import EmbeddingType
from sie_server.api.embed_dialects.openai import usage
from sie_server.api.embed_dialects.vectors import cut, encoded, numbers


class MixedbreadVector(Struct, gc=False):
    """`embedding`: the numbers, or with several types of numbers these by type."""

    index: int
    embedding: list[float] | str | dict[EmbeddingType, list[float] | str]
    object: Literal["embedding", "embedding_dict"] = "embedding"


class MixedbreadVectors(Struct):
    model: str
    data: list[MixedbreadVector]
    usage: wire.EmbeddingsUsage
    normalized: bool
    encoding_format: EmbeddingType | list[EmbeddingType]
    dimensions: int
    object: Literal["list"] = "list"


def _mixedbread(embedded: Embedded) -> Written:
    want = embedded.want
    kinds: list[EmbeddingType] = ["base64" if form.base64 else form.kind for form in want.forms]
    body = MixedbreadVectors(
        model=embedded.model,
        data=[],
        usage=usage(embedded),
        normalized=want.normalize is not False,
        encoding_format=kinds[0] if len(kinds) == 1 else kinds,
        dimensions=want.dims or len(embedded.vectors[0]["dense"]),
    )
    return Written(body, "data", _vectors(embedded))


def _vectors(embedded: Embedded) -> Iterator[MixedbreadVector]:
    want = embedded.want
    for index, vector in embedded.outputs():
        found: dict[EmbeddingType, Any] = {}
        for form in want.forms:
            values = numbers(cut(vector, want.dims), form, f"{embedded.field}[{index}]")
            found[form.kind] = encoded(values) if form.base64 else values.tolist()
        if len(found) == 1:
            [alone] = found.values()
            yield MixedbreadVector(index, alone)
        else:
            yield MixedbreadVector(index, found, "embedding_dict")


MIXEDBREAD = EmbedDialect("mixedbread", _mixedbread, MixedbreadVectors, several=True)
