"""What a large body is made of, as far as it takes to read it piece by piece. Nothing of it is decoded yet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sie_server.errors import Code, SIEError

Body = bytes | bytearray
# Of one element, or of everything beside the list. A call of msgspec for so many holds the interpreter for some ms.
MOST_VALUES_EACH = 16_384
# Bytes of a text, as it stands in the body, from which on it is read on its own.
LONG_TEXT = 16 * 2**10
# Of what can't be taken apart any further: an element without its long texts, or everything beside the list.
MOST_BYTES_AT_ONCE = 5 * 2**19
_SLICE = 128 * 2**10


@dataclass(frozen=True)
class Listed:
    """The list of a body.

    field: its name in the body. noun: what it has. kind: the type of an element. most: elements it may have. each:
    values that an element may have. numbers: elements of a list that is a single input, as token ids are.
    """

    field: str
    noun: str
    kind: Any
    most: int
    each: int = MOST_VALUES_EACH
    numbers: int = 0

    def too_many(self) -> SIEError:
        """The error of a list that has more."""
        message = f"Field '{self.field}' must contain at most {self.most} {self.noun}"
        return SIEError(Code.INVALID_INPUT, message, param=self.field)

    def too_dense(self, index: int) -> SIEError:
        """The error of an element that has too many values."""
        field = f"{self.field}[{index}]"
        return SIEError(Code.INVALID_INPUT, f"Field '{field}' must hold at most {self.each} values", param=field)


@dataclass(frozen=True)
class Outline:
    """The parts of a body.

    elements: of its list, the bytes of each: int64 `[elements, 2]`, half-open; None where the body has no such list.
    values: how many each element is made of. inside: the bytes between the brackets of the list. texts: the long ones
    anywhere, in order, half-open, with what encloses them. values_beside: of all that is not in the list.
    """

    elements: NDArray[np.int64] | None
    values: NDArray[np.int64]
    inside: tuple[int, int]
    texts: list[tuple[int, int]]
    values_beside: int


class Notation(Protocol):
    """JSON or MessagePack."""

    def outline(self, body: Body, listed: Listed, most_values: int, invalid: Code) -> Outline:
        """Raises SIEError: a count is over its limit; it is no body at all, as far as can be seen from here."""
        ...

    def hollow(self, body: Body, outline: Outline, cuts: list[tuple[int, int, str]]) -> Body:
        """The body with an empty list in place of its own, and names in place of the long texts beside it."""
        ...

    def several(self, body: Body, start: int, end: int, count: int, cuts: list[tuple[int, int, str]]) -> Body:
        """So many elements, which stand between start and end, as a list of their own."""
        ...

    def decode(self, raw: Body, kind: Any, invalid: Code) -> Any:
        """As `codec.decode`."""
        ...

    def text(self, body: Body, start: int, end: int, most: int, invalid: Code) -> str | None:
        """A long text; None where its UTF-8 has more than `most` bytes."""
        ...


def too_many_values(most: int) -> SIEError:
    """The error of a body that has more values than any may have."""
    return SIEError(Code.INVALID_INPUT, f"the body holds more than {most} values: texts, numbers, lists and objects")


def too_much_beside(listed: Listed) -> SIEError:
    """The error of a body whose other fields are too large to be decoded at once."""
    return SIEError(Code.INVALID_INPUT, f"the body holds too much data outside '{listed.field}' and its longest texts")


def spliced(
    body: Body, start: int, end: int, cuts: list[tuple[int, int, bytes]], squeeze: Callable[[Body], Body] | None = None
) -> bytes:
    """`body[start:end]`, with other bytes in place of some, in order.

    squeeze: what is left of a slice of the rest. What is over MOST_BYTES_AT_ONCE is left out.
    """
    parts: list[Body] = []
    size = 0
    for first, last, instead in [*cuts, (end, end, b"")]:
        # A copy holds Python's lock to its end.
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
