"""The I/O of the asyncio client.

asyncio and aiohttp are imported when a client is made, not when the package is: together they take longer to import
than all the rest.
"""

import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AbstractAsyncContextManager, closing, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sie_sdk._endpoint import Endpoint
from sie_sdk._exchange import Attempt, Call, Failure, Pause, Trace, exchange
from sie_sdk._pipeline import END, Batch, Finish, Give, Pull, Stream, pipeline
from sie_sdk._reply import Reply
from sie_sdk._session import Session
from sie_sdk.errors import SIEError

if TYPE_CHECKING:
    import httpx2

R = TypeVar("R")
T = TypeVar("T")


class AwaitedSession(Session):
    """A session on an event loop, where each part of a large input is a task."""

    def __init__(
        self,
        endpoint: Endpoint,
        max_connections: int | None,
        max_concurrency: int | None,
        http_client: "httpx2.AsyncClient | None",
    ) -> None:
        super().__init__(endpoint)
        import asyncio

        from sie_sdk import _aiohttp

        self._http = http_client
        self._connections = _aiohttp.Connections(endpoint.base_url, max_connections or 100)
        self._turns: AbstractAsyncContextManager[None] = nullcontext()
        if max_concurrency is not None:
            self._turns = asyncio.Semaphore(max_concurrency)

    async def close(self) -> None:
        """Closes the connections."""
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _all(self, batch: Batch[R, T]) -> T:
        return batch.merge([result async for result in self._stream(batch.stream)])

    async def _stream(self, stream: Stream[R]) -> AsyncGenerator[R, None]:
        import asyncio

        items: Any = stream.items
        is_async = isinstance(items, AsyncIterable)
        source: Any = aiter(items) if is_async else iter(items)
        under_way: deque[asyncio.Task[list[R]]] = deque()
        answer: Any = None
        with self._tracing() as trace, closing(pipeline(stream, trace)) as moves:
            try:
                while True:
                    try:
                        move = moves.send(answer)
                    except StopIteration:
                        return
                    answer = None
                    if isinstance(move, Pull):
                        answer = await anext(source, END) if is_async else next(source, END)
                    elif isinstance(move, Give):
                        for result in move.results:
                            yield result
                    elif isinstance(move, Finish):
                        try:
                            answer = await under_way.popleft()
                        except SIEError as error:
                            answer = error
                    else:
                        under_way.append(asyncio.create_task(self._run(move.call, move.trace)))
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _look_up(self, call: Call[T]) -> T:
        with self._tracing() as trace:
            return await self._run(call, trace)

    async def _run(self, call: Call[T], trace: Trace) -> T:
        import asyncio

        steps = exchange(call, trace, self._skew, self._clock)
        answer: Reply | Failure | None = None
        async with self._turns:
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    answer = None
                else:
                    answer = await self._send(step)

    async def _send(self, attempt: Attempt) -> Reply | Failure:
        if self._http is None:
            return await self._connections.send(attempt)
        import asyncio

        from sie_sdk import _http

        try:
            async with asyncio.timeout(attempt.total_s if attempt.total_s < math.inf else None):
                return _http.reply(await self._http.request(**_http.arguments(attempt)))
        except TimeoutError as error:
            return Failure("timeout", error)
        except _http.TransportError as error:
            return _http.failure(error)
