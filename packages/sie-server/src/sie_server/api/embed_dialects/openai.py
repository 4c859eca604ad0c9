"""OpenAI's answer, which is also that of Voyage, Jina, NIM, vLLM, Together, infinity and Xinference."""

from collections.abc import Iterator

from sie_server import wire
from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.vectors import values


def usage(embedded: Embedded) -> wire.EmbeddingsUsage:
    """The tokens."""
    return wire.EmbeddingsUsage(embedded.tokens, embedded.tokens)


def embeddings(embedded: Embedded) -> Iterator[wire.Embedding]:
    """The elements of `data`."""
    return (wire.Embedding(index, values(embedded, index, vector)) for index, vector in embedded.outputs())


def _openai(embedded: Embedded) -> Written:
    return Written(wire.EmbeddingsResponse(embedded.model, [], usage(embedded)), "data", embeddings(embedded))


OPENAI = EmbedDialect("", _openai, wire.EmbeddingsResponse)
# The same answer, with errors that have the text wherever a client looks for it.
VOYAGE = EmbedDialect("voyage", _openai, wire.EmbeddingsResponse, busy=429)
LIKE_OPENAI = EmbedDialect("jina", _openai, wire.EmbeddingsResponse)
VLLM = EmbedDialect("vllm", _openai, wire.EmbeddingsResponse, busy=429)
TEI_OPENAI = EmbedDialect("tei", _openai, wire.EmbeddingsResponse, plain_errors=True, busy=429)
