"""ZeroEntropy's answer: `results` with vectors."""

from msgspec import Struct

from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.vectors import values


class ZeroEntropyVector(Struct, gc=False):
    embedding: list[float] | str


class ZeroEntropyUsage(Struct):
    total_bytes: int
    total_tokens: int


class ZeroEntropyVectors(Struct):
    results: list[ZeroEntropyVector]
    usage: ZeroEntropyUsage


def _zeroentropy(embedded: Embedded) -> Written:
    size = sum(len(text.encode()) for text in embedded.texts if isinstance(text, str))
    vectors = (ZeroEntropyVector(values(embedded, index, vector)) for index, vector in embedded.outputs())
    return Written(ZeroEntropyVectors([], ZeroEntropyUsage(size, embedded.tokens)), "results", vectors)


ZEROENTROPY = EmbedDialect("zeroentropy", _zeroentropy, ZeroEntropyVectors)
