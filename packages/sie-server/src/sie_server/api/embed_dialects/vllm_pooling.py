"""The answer of vLLM's `/pooling`: vectors, or the vectors of tokens."""

from typing import Any, Literal

from msgspec import Struct

from sie_server import wire
from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.openai import usage
from sie_server.api.embed_dialects.tei import token_vectors
from sie_server.api.embed_dialects.vectors import values


class Pooled(Struct, gc=False):
    """`data`: a vector, or with `task` "token_embed" one for each token."""

    index: int
    data: Any
    object: Literal["pooling"] = "pooling"


class PooledVectors(Struct):
    id: str
    created: int
    model: str
    data: list[Pooled]
    usage: wire.EmbeddingsUsage
    object: Literal["list"] = "list"


def _pooling(embedded: Embedded) -> Written:
    if embedded.want.output == "multivector":
        pooled = (Pooled(index, rows) for index, rows in enumerate(token_vectors(embedded)))
    else:
        pooled = (Pooled(index, values(embedded, index, vector)) for index, vector in embedded.outputs())
    body = PooledVectors(f"pool-{embedded.id}", embedded.created, embedded.model, [], usage(embedded))
    return Written(body, "data", pooled)


POOLING = EmbedDialect(
    "vllm", _pooling, PooledVectors, tasks={"embed": "dense", "token_embed": "multivector"}, busy=429
)
