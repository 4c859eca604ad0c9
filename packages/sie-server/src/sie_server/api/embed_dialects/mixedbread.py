"""Mixedbread's answer: OpenAI's, with what the vectors are."""

from typing import Literal

from msgspec import Struct

from sie_server import wire
from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.fields import EmbeddingType
from sie_server.api.embed_dialects.openai import embeddings, usage


class MixedbreadVectors(Struct):
    model: str
    data: list[wire.Embedding]
    usage: wire.EmbeddingsUsage
    normalized: bool
    encoding_format: EmbeddingType
    dimensions: int
    object: Literal["list"] = "list"


def _mixedbread(embedded: Embedded) -> Written:
    want = embedded.want
    body = MixedbreadVectors(
        model=embedded.model,
        data=[],
        usage=usage(embedded),
        normalized=want.normalize is not False,
        encoding_format="base64" if want.forms[0].base64 else want.forms[0].kind,
        dimensions=want.dims or len(embedded.vectors[0]["dense"]),
    )
    return Written(body, "data", embeddings(embedded))


MIXEDBREAD = EmbedDialect("mixedbread", _mixedbread, MixedbreadVectors)
