"""I/O of the asyncio client.

asyncio and aiohttp are imported when a client is constructed, not with the package: together they take longer to import
than everything else.
"""

import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing, nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sie_sdk._core.endpoint import Endpoint
from sie_sdk._core.exchange import Attempt, Call, Failure, Pause, Steps, Trace, exchange
from sie_sdk._core.pipeline import END, Batch, Emit, Finish, Pull, Stream, pipeline
from sie_sdk._core.reply import Reply
from sie_sdk._core.watch import Open, Read, ShowStatus, watch_statuses
from sie_sdk.client._shared import Session, check_http_client
from sie_sdk.errors import SIEError
from sie_sdk.types import StatusMessage, WatchMode

if TYPE_CHECKING:
    import httpx2

R = TypeVar("R")
T = TypeVar("T")


class AsyncSession(Session):
    """A session on an event loop, with a task for each chunk of a large input."""

    def __init__(
        self,
        endpoint: Endpoint,
        max_connections: int | None,
        max_concurrency: int | None,
        http_client: "httpx2.AsyncClient | None",
    ) -> None:
        super().__init__(endpoint)
        import asyncio

        from sie_sdk._transports import aiohttp

        if http_client is not None:
            import httpx2

            check_http_client(http_client, httpx2.AsyncClient)
        self._closed = asyncio.Event()
        self._http = http_client
        self._connections = aiohttp.Connections(endpoint.base_url, max_connections or 100)
        self._slots: AbstractAsyncContextManager[None] = nullcontext()
        if max_concurrency is not None:
            self._slots = asyncio.Semaphore(max_concurrency)

    async def close(self) -> None:
        """Closes the connections and ends all `watch` loops."""
        self._closed.set()
        await self._connections.close()

    def watch(
        self, mode: WatchMode = "auto", *, wait_for_capacity: bool = True, provision_timeout_s: float | None = None
    ) -> AsyncGenerator[StatusMessage, None]:
        """Yields the status of the server until `close()`, or `aclose()` of the generator; see `SIEClient.watch`."""
        call = self._endpoint.watch(mode, wait_for_capacity=wait_for_capacity, provision_timeout_s=provision_timeout_s)
        return self._statuses(call)

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
        in_flight: deque[asyncio.Task[list[R]]] = deque()
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
                    elif isinstance(move, Emit):
                        for result in move.results:
                            yield result
                    elif isinstance(move, Finish):
                        try:
                            answer = await in_flight.popleft()
                        except SIEError as error:
                            answer = error
                    else:
                        in_flight.append(asyncio.create_task(self._run(move.call, move.trace)))
            finally:
                for task in in_flight:
                    task.cancel()
                await asyncio.gather(*in_flight, return_exceptions=True)

    async def _look_up(self, call: Call[T]) -> T:
        with self._tracing() as trace:
            return await self._run(call, trace)

    async def _run(self, call: Call[T], trace: Trace) -> T:
        return await self._driven(exchange(call, trace, self._history, self._clock))

    async def _driven(self, steps: Steps[T]) -> T:
        import asyncio

        answer: Reply | Failure | None = None
        async with self._slots:
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

    async def _statuses(self, call: Call[StatusMessage]) -> AsyncGenerator[StatusMessage, None]:
        import asyncio

        import httpx2

        from sie_sdk._transports import httpx2 as transport

        connection: Any = None
        answer: Any = None
        # httpx2, as in the blocking client: it gives access to the bytes of a connection.
        client = httpx2.AsyncClient() if self._http is None else nullcontext(self._http)
        async with client as http, AsyncExitStack() as kept:
            with closing(watch_statuses(call, self._history, self._clock)) as steps:
                while not self._closed.is_set():
                    step, answer = steps.send(answer), None
                    if isinstance(step, ShowStatus):
                        yield step.status
                    elif isinstance(step, Pause):
                        with suppress(TimeoutError):
                            await asyncio.wait_for(self._closed.wait(), step.seconds)
                    elif isinstance(step, Open):
                        await kept.aclose()
                        answer, connection = await self._open(http, step.attempt, kept)
                    else:
                        try:
                            if isinstance(step, Read):
                                answer = await connection.read(transport.READ_BYTES, timeout=step.timeout_s)
                            else:
                                await connection.write(step.data, timeout=step.timeout_s)
                        except transport.StreamSilentError:
                            pass
                        except transport.StreamError as error:
                            answer = Failure("connect", error)

    @staticmethod
    async def _open(http: "httpx2.AsyncClient", attempt: Attempt, kept: AsyncExitStack) -> tuple[Reply | Failure, Any]:
        from sie_sdk._transports import httpx2 as transport

        try:
            response = await kept.enter_async_context(http.stream(**transport.arguments(attempt)))
            if (reply := transport.switched(response)) is not None:
                return reply, transport.connection(response)
            return await transport.read_async(response), None
        except transport.TransportError as error:
            return transport.failure(error), None

    async def _send(self, attempt: Attempt) -> Reply | Failure:
        if self._http is None:
            return await self._connections.send(attempt)
        import asyncio

        from sie_sdk._transports import httpx2 as transport

        try:
            async with (
                asyncio.timeout(attempt.total_s if attempt.total_s < math.inf else None),
                self._http.stream(**transport.arguments(attempt)) as response,
            ):
                return await transport.read_async(response)
        except TimeoutError as error:
            return Failure("timeout", error)
        except transport.TransportError as error:
            return transport.failure(error)
