"""Sizes of answers, checked before anything is computed for them."""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

from sie_server import wire
from sie_server.catalog.catalog import Entry
from sie_server.engine.calls import Checks
from sie_server.errors import Code, SIEError
from sie_server.http.body_memory import BodyHold, BodyMemory, Texts
from sie_server.options import Dtype
from sie_server.settings import Settings

# Most bytes of a number: in JSON with all its digits and a comma.
_IN_JSON: dict[Dtype, int] = {"float32": 24, "float16": 24, "int8": 5, "uint8": 4, "binary": 4, "ubinary": 4}
_IN_MSGPACK: dict[Dtype, int] = {"float32": 4, "float16": 2, "int8": 1, "uint8": 1, "binary": 1, "ubinary": 1}
_IN_BASE64 = 16 / 3
# A highlight: two spans and a cosine, with their names.
_HIGHLIGHT = 96
# Most bytes of a character, of one that JSON escapes.
_IN_UTF8, _ESCAPED = 4, 6
# Not worth counting.
_SMALL = 2**20
# What is computed, before it is written.
_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class Size:
    """Largest sizes in bytes of an answer, and of the memory that it takes while it is made."""

    answer: int
    memory: int


def of_vectors(vectors: int, dims: int, dtype: Dtype, *, msgpack: bool, base64: bool = False) -> Size:
    """Size of a number of embeddings, or of token vectors, of `dims` dimensions."""
    numbers = vectors * (-(-dims // 8) if dtype in ("binary", "ubinary") else dims)
    each = _IN_BASE64 if base64 else (_IN_MSGPACK if msgpack else _IN_JSON)[dtype]
    answer = int(numbers * each)
    return Size(answer, answer + vectors * dims * _FLOAT32)


def of_sparse(weights: int, dtype: Dtype, *, msgpack: bool) -> Size:
    """Size of a number of token weights, with their token ids."""
    each = (_IN_MSGPACK if msgpack else _IN_JSON)["float16" if dtype == "float16" else "float32"]
    return Size(weights * (each + 8), weights * (each + 16))


def of_highlights(documents: int, query: int) -> Size:
    """Size of the highlights of a number of documents, for a query of `query` tokens."""
    return Size(documents * query * _HIGHLIGHT, 2 * documents * query * _HIGHLIGHT)


def of_ids(items: Iterable[wire.Item], *, msgpack: bool) -> Size:
    """Size of the ids that an answer repeats. A control character takes six bytes in JSON."""
    characters = sum(len(item.id) for item in items if item.id is not None)
    size = characters * (_IN_UTF8 if msgpack else _ESCAPED)
    return Size(size, size)


def of_rendered(texts: Items[str], rendered: Items[str]) -> Size:
    """Size of texts in their template: not part of the answer, but held as long. Zero if the template adds nothing."""
    added = (len(rendered[0]) - len(texts[0])) * len(texts)
    return Size(0, added and added + sum(map(len, texts)))


class AnswerSizes:
    """Limits on the sizes of answers: of each, and of all together with the bodies."""

    def __init__(self, settings: Settings, memory: BodyMemory) -> None:
        self._max_bytes = settings.max_answer_bytes
        self._memory = memory

    def check(self, sizes: Iterable[Size], field: str) -> None:
        """Raises SIEError: INVALID_INPUT, an answer of these parts could be too large; names the field it is due to."""
        answer = made = 0
        for size in sizes:
            answer += size.answer
            made += size.memory - size.answer
        # What an answer is made of may be larger than itself: a bit was a number of four bytes.
        if max(answer, made) > self._max_bytes:
            kind = f"a response of up to {answer:,} bytes"
            if made > answer:
                kind = f"a response that takes up to {made:,} bytes of memory"
            raise SIEError(
                Code.INVALID_INPUT,
                f"Field '{field}' makes {kind} for these items; the limit is {self._max_bytes:,} (--max-answer-bytes)",
                param=field,
            )

    def hold(self, hold: BodyHold, sizes: Items[Size], field: str) -> None:
        """Count an answer of these parts with the body of the request, for as long as that is counted.

        Raises:
            SIEError: as `check`; QUEUE_FULL, other requests' bodies and answers leave no room for it.
        """
        self.check(sizes, field)
        memory = sum(size.memory for size in sizes)
        if memory > _SMALL:
            self._memory.take(hold, memory)


class HighlightChecks(Checks):
    """Checks the size of the highlights of a number of documents."""

    def __init__(self, sizes: AnswerSizes, hold: BodyHold, documents: int) -> None:
        self._sizes = sizes
        self._hold = hold
        self._documents = documents

    def token_vectors(self, count: int) -> None:
        size = of_highlights(self._documents, count)
        self._sizes.hold(self._hold, [size], "options.return_highlights")


@dataclass
class EmbeddingChecks(Checks):
    """Checks the sizes of an answer with embeddings. field: what errors name. more: sizes of other parts of the answer.

    dims: width of dense vectors; None: the model's.
    """

    sizes: AnswerSizes
    hold: BodyHold
    texts: Items[Any]
    outputs: Items[str]
    field: str
    msgpack: bool
    dtype: Dtype = "float32"
    base64: bool = False
    dims: int | None = None
    more: Items[Size] = ()

    def model(self, entry: Entry) -> None:
        self._token_dims = entry.dims or 0
        self._parts: list[Size] = []
        self._sparse = 0
        if "dense" in self.outputs:
            dims = self._token_dims if self.dims is None else self.dims
            self._parts.append(of_vectors(len(self.texts), dims, self.dtype, msgpack=self.msgpack, base64=self.base64))
            # Refused before the texts are read, if possible.
            self.sizes.check(self._parts, self.field)
        self._parts += self.more

    def rendered(self, texts: list[str]) -> list[str]:
        held = Texts(texts, self.hold)
        self.sizes.hold(self.hold, [of_rendered(self.texts, texts)], self.field)
        return held

    def token_vectors(self, count: int) -> None:
        if "multivector" in self.outputs:
            self._parts.append(of_vectors(count, self._token_dims, self.dtype, msgpack=self.msgpack))
        self.sizes.hold(self.hold, self._parts, self.field)

    def embedding(self, vectors: Mapping[str, Any]) -> None:
        self._sparse += len(vectors["sparse"][0])
        self.sizes.check([of_sparse(self._sparse, self.dtype, msgpack=self.msgpack)], self.field)
