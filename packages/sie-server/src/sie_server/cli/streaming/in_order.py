"""Concurrent work on a stream, with its results in the order of the stream."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Window:
    """Limits on the work in progress: on the number of its items, and on their size, such as characters.

    An item that is larger than the limit is worked on alone.
    """

    items: int
    size: int


async def in_order(
    stream: AsyncIterator[T], work: Callable[[T], Coroutine[Any, Any, R]], size: Callable[[T], int], window: Window
) -> AsyncGenerator[tuple[T, R], None]:
    """Each item with the result of the work on it, as soon as it and all in front of it are done.

    Meanwhile, work on as many further items as the window has room for goes on. An exception of the stream or of the
    work is raised in the place of its result, and ends the rest.
    """
    pending: deque[tuple[T, int, asyncio.Task[R]]] = deque()
    in_progress = 0
    reading: asyncio.Future[T] | None = asyncio.ensure_future(anext(stream))
    try:
        while reading is not None or pending:
            full = len(pending) >= window.items or (pending and in_progress >= window.size)
            waiting: set[asyncio.Future[Any]] = set() if reading is None or full else {reading}
            if pending:
                waiting.add(pending[0][2])
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if pending and pending[0][2].done():
                item, length, task = pending.popleft()
                in_progress -= length
                yield item, task.result()
            elif reading is not None and reading.done():
                try:
                    item = reading.result()
                except StopAsyncIteration:
                    reading = None
                    continue
                except Exception:
                    # What came before it is complete first.
                    while pending:
                        item, _, task = pending.popleft()
                        yield item, await task
                    raise
                length = size(item)
                in_progress += length
                pending.append((item, length, asyncio.create_task(work(item))))
                reading = asyncio.ensure_future(anext(stream))
    finally:
        unfinished: list[asyncio.Future[Any]] = [task for _, _, task in pending]
        if reading is not None:
            unfinished.append(reading)
        for future in unfinished:
            future.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
