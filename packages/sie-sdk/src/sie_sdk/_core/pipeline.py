"""The life of a call that takes several requests, without I/O.

`pipeline` is a generator like `exchange`, one level up. It splits the items into chunks, keeps a few of them in flight,
and emits their results in the order of the items. `SyncSession` and `AsyncSession` drive it.
"""

from collections import deque
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sie_sdk._core.chunks import Chunk, Chunker
from sie_sdk._core.exchange import Call, Trace
from sie_sdk.errors import SIEError
from sie_sdk.types import Item

R = TypeVar("R")
T = TypeVar("T")

# Enough to keep a server busy while a response travels and the next chunk is encoded.
IN_FLIGHT = 4
END: Final = object()


@dataclass(frozen=True, slots=True)
class Stream(Generic[R]):
    """Items, which may be async and endless, and the request to make for each chunk of them.

    `call` makes the request for a chunk, `has_ids` is as for `Chunker`, and `progress` takes the number of items done.
    """

    items: Iterable[Item | str] | AsyncIterable[Item | str]
    call: Callable[[Chunk], Call[list[R]]]
    has_ids: bool
    progress: AbstractContextManager[Callable[[int], None]]
    # An empty list is sent, for the server to refuse; an empty stream just ends.
    sends_empty: bool = False


@dataclass(frozen=True, slots=True)
class Batch(Generic[R, T]):
    """A stream, and the function that merges all its results into one value."""

    stream: Stream[R]
    merge: Callable[[list[R]], T]


@dataclass(frozen=True, slots=True)
class Pull:
    """A request for the next item, or END after the last one."""


@dataclass(frozen=True, slots=True)
class Start(Generic[R]):
    """A call to start. `alone`: there will be no other."""

    call: Call[list[R]]
    trace: Trace
    alone: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """A request for the results, or the error, of the oldest call in flight."""


@dataclass(frozen=True, slots=True)
class Emit(Generic[R]):
    """Results for the caller."""

    results: list[R]


Moves = Generator[Pull | Start[R] | Finish | Emit[R], Any, None]


def pipeline(stream: Stream[R], trace: Trace) -> Moves[R]:
    """Runs up to `IN_FLIGHT` chunks and one item ahead of the results.

    Raises the error of the first chunk that failed.
    """
    chunker = Chunker(has_ids=stream.has_ids)
    in_flight: deque[tuple[Chunk, Trace]] = deque()
    ended = False
    with stream.progress as progress:
        while True:
            while not ended and len(in_flight) < IN_FLIGHT:
                item = yield Pull()
                ended = item is END
                chunk = chunker.last() if ended else chunker.add(item)
                if chunk is not None and (chunk.items or stream.sends_empty):
                    in_flight.append((chunk, Trace()))
                    yield Start(stream.call(chunk), in_flight[-1][1], alone=ended and chunk.start == 0)
            if not in_flight:
                return
            results = yield Finish()
            chunk, chunk_trace = in_flight.popleft()
            trace.add(chunk_trace)
            if isinstance(results, SIEError):
                if chunk.start or not ended or in_flight:
                    results.add_note(f"in the request for items[{chunk.start}:{chunk.end}]")
                raise results
            progress(chunk.end)
            yield Emit(results)
