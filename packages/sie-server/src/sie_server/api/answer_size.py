"""How large an answer will be, before anything is computed for it."""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from sie_server import wire
from sie_server.errors import Code, SIEError
from sie_server.http.body_memory import Account
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
    """Most bytes of an answer, and most that it takes in memory while it is made."""

    answer: int
    memory: int


def of_vectors(vectors: int, dims: int, dtype: Dtype, *, msgpack: bool, base64: bool = False) -> Size:
    """Of so many embeddings, or vectors of tokens, of so many dimensions."""
    numbers = vectors * (-(-dims // 8) if dtype in ("binary", "ubinary") else dims)
    each = _IN_BASE64 if base64 else (_IN_MSGPACK if msgpack else _IN_JSON)[dtype]
    answer = int(numbers * each)
    return Size(answer, answer + vectors * dims * _FLOAT32)


def of_sparse(weights: int, dtype: Dtype, *, msgpack: bool) -> Size:
    """Of so many weights of tokens, with their token ids."""
    each = (_IN_MSGPACK if msgpack else _IN_JSON)["float16" if dtype == "float16" else "float32"]
    return Size(weights * (each + 8), weights * (each + 16))


def of_highlights(documents: int, query: int) -> Size:
    """Of so many documents, for a query of so many tokens."""
    return Size(documents * query * _HIGHLIGHT, 2 * documents * query * _HIGHLIGHT)


def of_ids(items: Iterable[wire.Item], *, msgpack: bool) -> Size:
    """Of the ids that an answer repeats. A control character takes six bytes in JSON."""
    characters = sum(len(item.id) for item in items if item.id is not None)
    size = characters * (_IN_UTF8 if msgpack else _ESCAPED)
    return Size(size, size)


def of_rendered(given: Items[str], texts: Items[str]) -> Size:
    """Of the texts that a template made of those that were given: nothing of an answer, but they are held as long."""
    around = len(texts[0]) - len(given[0])
    return Size(0, around * len(texts) and around * len(texts) + sum(map(len, given)))


class Answers:
    """What answers may take: each of them, and all together with the bodies."""

    def __init__(self, settings: Settings, account: Account) -> None:
        self._most = settings.max_answer_bytes
        self._account = account

    def check(self, sizes: Iterable[Size], field: str) -> None:
        """Raises SIEError: INVALID_INPUT, an answer of these parts could be too large; names the field it is due to."""
        answer = made = 0
        for size in sizes:
            answer += size.answer
            made += size.memory - size.answer
        # What an answer is made of may be larger than itself: a bit was a number of four bytes.
        if max(answer, made) > self._most:
            what = f"an answer of up to {answer:,} bytes"
            if made > answer:
                what = f"an answer out of up to {made:,} bytes"
            raise SIEError(
                Code.INVALID_INPUT,
                f"Field '{field}' makes {what} for these items; the limit is {self._most:,} (--max-answer-bytes)",
                param=field,
            )

    def hold(self, request: Request, sizes: Items[Size], field: str) -> None:
        """Count an answer of these parts, for as long as the body of the request is.

        Raises:
            SIEError: as `check`; QUEUE_FULL, what others hold leaves no room for it.
        """
        self.check(sizes, field)
        memory = sum(size.memory for size in sizes)
        if memory > _SMALL:
            self._account.take(request.state.hold, memory)

    def sparse(self, dtype: Dtype, field: str, *, msgpack: bool) -> Callable[[dict[str, Any]], None]:
        """Checks sparse vectors as they come: how many weights they have is not known before."""
        weights = 0

        def check(vectors: dict[str, Any]) -> None:
            nonlocal weights
            weights += len(vectors["sparse"][0])
            self.check([of_sparse(weights, dtype, msgpack=msgpack)], field)

        return check
