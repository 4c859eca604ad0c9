"""The life of a call whose items one request may not hold, without I/O.

`pipeline` is a generator like `exchange`, one level up. It cuts the items into parts, keeps a few of them under way,
and gives their results in the order of the items. `BlockingSession` and `AwaitedSession` are two loops around it.
"""

from collections import deque
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sie_sdk._core.chunks import Cutter, Part
from sie_sdk._core.exchange import Call, Trace
from sie_sdk.errors import SIEError
from sie_sdk.types import Item

R = TypeVar("R")
T = TypeVar("T")

# Enough to keep a server at work while an answer travels and the next part is packed.
IN_FLIGHT = 4
END: Final = object()


@dataclass(frozen=True, slots=True)
class Stream(Generic[R]):
    """Items, and what is asked of them. They may be async, and there may be no end to them.

    `call` is the request for one part, `named` is as for `Cutter`; `progress` is told how many items are done.
    """

    items: Iterable[Item] | AsyncIterable[Item]
    call: Callable[[Part], Call[list[R]]]
    named: bool
    progress: AbstractContextManager[Callable[[int], None]]
    # No items in a list are the server's to refuse; a stream that ends before its first is just empty.
    sends_empty: bool = False


@dataclass(frozen=True, slots=True)
class Batch(Generic[R, T]):
    """A stream, and how to make one value of all its results."""

    stream: Stream[R]
    merge: Callable[[list[R]], T]


@dataclass(frozen=True, slots=True)
class Pull:
    """Answer with the next item, or END."""


@dataclass(frozen=True, slots=True)
class Start(Generic[R]):
    """Set this going. `alone`: it is the only one there will be."""

    call: Call[list[R]]
    trace: Trace
    alone: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """Answer with the results, or the error, of the call that was started first and is not finished yet."""


@dataclass(frozen=True, slots=True)
class Give(Generic[R]):
    """Hand these to whoever asked."""

    results: list[R]


Moves = Generator[Pull | Start[R] | Finish | Give[R], Any, None]


def pipeline(stream: Stream[R], trace: Trace) -> Moves[R]:
    """Never more than `IN_FLIGHT` parts, and one item, ahead of what was given. Raises the first error, by position."""
    cutter = Cutter(named=stream.named)
    under_way: deque[tuple[Part, Trace]] = deque()
    ended = False
    with stream.progress as progress:
        while True:
            while not ended and len(under_way) < IN_FLIGHT:
                item = yield Pull()
                ended = item is END
                part = cutter.rest() if ended else cutter.add(item)
                if part is not None and (part.items or stream.sends_empty):
                    under_way.append((part, Trace()))
                    yield Start(stream.call(part), under_way[-1][1], alone=ended and part.start == 0)
            if not under_way:
                return
            results = yield Finish()
            part, of_part = under_way.popleft()
            trace.add(of_part)
            if isinstance(results, SIEError):
                if part.start or not ended or under_way:
                    results.add_note(f"in the request for items[{part.start}:{part.end}]")
                raise results
            progress(part.end)
            yield Give(results)
