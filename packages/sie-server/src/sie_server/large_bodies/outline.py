"""The outline of a large body: positions of its parts, found without decoding, so that it can be read in pieces."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sie_server.errors import Code, SIEError

Body = bytes | bytearray
# Values in one element, or outside of the list. Decoding so many in one call holds the GIL for some milliseconds.
MOST_VALUES_EACH = 16_384
# Encoded bytes from which a text is read on its own.
LONG_TEXT = 16 * 2**10
# Bytes of what is decoded in one call: an element without its long texts, or everything outside of the list.
MOST_BYTES_AT_ONCE = 5 * 2**19
_SLICE = 128 * 2**10


@dataclass(frozen=True)
class ListField:
    """The field that holds a body's list, and the limits on it.

    field: its name. noun: name of its elements in messages. kind: type of an element. most: limit on elements. each:
    limit on values in an element. numbers: limit on elements of a list that is a single input, of token ids.
    """

    field: str
    noun: str
    kind: Any
    most: int
    each: int = MOST_VALUES_EACH
    numbers: int = 0

    def too_many(self) -> SIEError:
        """The error of a list with too many elements."""
        message = f"Field '{self.field}' must contain at most {self.most} {self.noun}"
        return SIEError(Code.INVALID_INPUT, message, param=self.field)

    def too_dense(self, index: int) -> SIEError:
        """The error of an element with too many values."""
        field = f"{self.field}[{index}]"
        return SIEError(Code.INVALID_INPUT, f"Field '{field}' must hold at most {self.each} values", param=field)


@dataclass(frozen=True)
class Outline:
    """Positions of the parts of a body, as half-open ranges of bytes.

    elements: the list's elements, int64 `[elements, 2]`; None if the body has no such list. values: number of values in
    each element. inside: the range between the brackets of the list. texts: all long texts in order, with their quotes
    or headers. values_outside: number of values outside of the list.
    """

    elements: NDArray[np.int64] | None
    values: NDArray[np.int64]
    inside: tuple[int, int]
    texts: list[tuple[int, int]]
    values_outside: int


class Notation(Protocol):
    """JSON or MessagePack."""

    def outline(self, body: Body, listed: ListField, most_values: int, invalid: Code) -> Outline:
        """Find the parts of a body. Raises SIEError: a count exceeds its limit, or the body is malformed."""
        ...

    def hollow(self, body: Body, outline: Outline, cuts: list[tuple[int, int, str]]) -> Body:
        """The body with an empty list, and with names in place of the long texts outside of it."""
        ...

    def several(self, body: Body, start: int, end: int, count: int, cuts: list[tuple[int, int, str]]) -> Body:
        """The `count` elements in `body[start:end]` as a list of their own."""
        ...

    def decode(self, raw: Body, kind: Any, invalid: Code) -> Any:
        """Decode as `codec.decode`."""
        ...

    def text(self, body: Body, start: int, end: int, most: int, invalid: Code) -> str | None:
        """A decoded long text; None if its UTF-8 exceeds `most` bytes."""
        ...


def too_many_values(most: int) -> SIEError:
    """The error of a body with too many values."""
    return SIEError(
        Code.INVALID_INPUT, f"the request body contains more than {most} values (texts, numbers, lists and objects)"
    )


def too_much_beside(listed: ListField) -> SIEError:
    """The error of a body whose fields outside of the list are too large to decode in one call."""
    return SIEError(Code.INVALID_INPUT, f"the fields other than '{listed.field}' and their longest texts are too large")


def spliced(
    body: Body, start: int, end: int, cuts: list[tuple[int, int, bytes]], squeeze: Callable[[Body], Body] | None = None
) -> bytes:
    """`body[start:end]` with replacements for some ranges, in order, truncated after MOST_BYTES_AT_ONCE.

    squeeze: applied to slices of what is kept.
    """
    parts: list[Body] = []
    size = 0
    for first, last, instead in [*cuts, (end, end, b"")]:
        # In slices, as a copy holds the GIL until it is done.
        for at in range(start, first, _SLICE):
            piece = body[at : min(at + _SLICE, first)]
            parts.append(piece if squeeze is None else squeeze(piece))
            size += len(parts[-1])
            if size > MOST_BYTES_AT_ONCE:
                return b"".join(parts)
        parts.append(instead)
        size += len(instead)
        start = last
    return b"".join(parts)
