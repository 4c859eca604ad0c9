"""I/O of the blocking client."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sie_sdk._core.endpoint import Endpoint
from sie_sdk._core.exchange import Attempt, Call, Failure, Pause, Steps, Trace, exchange
from sie_sdk._core.pipeline import END, IN_FLIGHT, Batch, Emit, Finish, Pull, Stream, pipeline
from sie_sdk._core.reply import Reply
from sie_sdk._core.watch import Open, Read, ShowStatus, watch_statuses
from sie_sdk.client._shared import Session, check_http_client
from sie_sdk.errors import SIEError
from sie_sdk.types import StatusMessage, WatchMode

if TYPE_CHECKING:
    import httpx2

R = TypeVar("R")
T = TypeVar("T")


class SyncSession(Session):
    """A session that sends in the caller's thread, and the chunks of a large input in threads of its own."""

    def __init__(self, endpoint: Endpoint, max_connections: int | None, http_client: "httpx2.Client | None") -> None:
        super().__init__(endpoint)
        import httpx2

        from sie_sdk._transports import httpx2 as transport

        check_http_client(http_client, httpx2.Client)
        self._closed = threading.Event()
        self._owns_http = http_client is None
        self._http = http_client or httpx2.Client(limits=transport.limits(max_connections or 100))

    def close(self) -> None:
        """Closes the connections and ends all `watch` loops."""
        self._closed.set()
        if self._owns_http:
            self._http.close()

    def watch(
        self, mode: WatchMode = "auto", *, wait_for_capacity: bool = True, provision_timeout_s: float | None = None
    ) -> Generator[StatusMessage, None, None]:
        """Yields the status of the server several times a second, until the client or the generator is closed.

            >>> from sie_sdk import SIEClient
            >>> with SIEClient("http://localhost:8080") as client:
            ...     for status in client.watch():
            ...         print(status["ready"], [model["name"] for model in status["models"] if model["queue_depth"]])
            ...         break
            True []

        A connection that breaks, or is silent for `read_timeout_s`, is reopened after the pauses of any other call.

        Args:
            mode: `"auto"` or `"worker"`; both mean the same here.
            wait_for_capacity: Whether to wait for a server that does not respond, also if it stops responding later.
            provision_timeout_s: How many seconds to wait for a status (900); 0 connects only once.

        Raises:
            RequestError: The server has no status stream.
            ValueError: An argument is invalid.
            SIEError: See `sie_sdk.errors`.
        """
        call = self._endpoint.watch(mode, wait_for_capacity=wait_for_capacity, provision_timeout_s=provision_timeout_s)
        return self._statuses(call)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all(self, batch: Batch[R, T]) -> T:
        return batch.merge(list(self._stream(batch.stream)))

    def _stream(self, stream: Stream[R]) -> Generator[R, None, None]:
        from concurrent.futures import CancelledError, ThreadPoolExecutor
        from contextvars import copy_context

        items: Any = stream.items
        source = iter(items)
        given_up = threading.Event()
        threads: ThreadPoolExecutor | None = None
        in_flight: deque[Callable[[], list[R]]] = deque()

        def pause(seconds: float) -> None:
            if given_up.wait(seconds):
                raise CancelledError

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
                        answer = next(source, END)
                    elif isinstance(move, Emit):
                        yield from move.results
                    elif isinstance(move, Finish):
                        try:
                            answer = in_flight.popleft()()
                        except SIEError as error:
                            answer = error
                    elif move.alone:
                        in_flight.append(partial(self._run, move.call, move.trace, time.sleep))
                    else:
                        threads = threads or ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="sie-sdk")
                        run = copy_context().run
                        in_flight.append(threads.submit(run, self._run, move.call, move.trace, pause).result)
            finally:
                given_up.set()
                if threads is not None:
                    # Not waited for: requests in flight end with a response that nobody needs any more.
                    threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, call: Call[T]) -> T:
        with self._tracing() as trace:
            return self._run(call, trace, time.sleep)

    def _run(self, call: Call[T], trace: Trace, pause: Callable[[float], None]) -> T:
        return self._driven(exchange(call, trace, self._history, self._clock), pause)

    def _driven(self, steps: Steps[T], pause: Callable[[float], None]) -> T:
        answer: Reply | Failure | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                pause(step.seconds)
                answer = None
            else:
                answer = self._send(step)

    def _statuses(self, call: Call[StatusMessage]) -> Generator[StatusMessage, None, None]:
        from sie_sdk._transports import httpx2 as transport

        connection: Any = None
        answer: Any = None
        with ExitStack() as kept, closing(watch_statuses(call, self._history, self._clock)) as steps:
            while not self._closed.is_set():
                step, answer = steps.send(answer), None
                if isinstance(step, ShowStatus):
                    yield step.status
                elif isinstance(step, Pause):
                    self._closed.wait(step.seconds)
                elif isinstance(step, Open):
                    kept.close()
                    answer, connection = self._open(step.attempt, kept)
                else:
                    try:
                        if isinstance(step, Read):
                            answer = connection.read(transport.READ_BYTES, timeout=step.timeout_s)
                        else:
                            connection.write(step.data, timeout=step.timeout_s)
                    except transport.StreamSilentError:
                        pass
                    except transport.StreamError as error:
                        answer = Failure("connect", error)

    def _open(self, attempt: Attempt, kept: ExitStack) -> tuple[Reply | Failure, Any]:
        from sie_sdk._transports import httpx2 as transport

        since = time.monotonic()
        try:
            response = kept.enter_context(self._http.stream(**transport.arguments(attempt)))
            if (reply := transport.switched(response)) is not None:
                return reply, transport.connection(response)
            return transport.read(response, attempt.total_s, since), None
        except transport.TransportError as error:
            return transport.failure(error), None

    def _send(self, attempt: Attempt) -> Reply | Failure:
        from sie_sdk._transports import httpx2 as transport

        since = time.monotonic()
        try:
            with self._http.stream(**transport.arguments(attempt)) as response:
                return transport.read(response, attempt.total_s, since)
        except transport.TransportError as error:
            return transport.failure(error)
