"""The I/O of the blocking client."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sie_sdk._endpoint import Endpoint
from sie_sdk._exchange import Attempt, Call, Failure, Pause, Trace, exchange
from sie_sdk._pipeline import END, IN_FLIGHT, Batch, Finish, Give, Pull, Stream, pipeline
from sie_sdk._reply import Reply
from sie_sdk._session import Session
from sie_sdk.errors import SIEError

if TYPE_CHECKING:
    import httpx2

R = TypeVar("R")
T = TypeVar("T")


class BlockingSession(Session):
    """A session that waits in the caller's thread, and for the parts of a large input in threads of its own."""

    def __init__(self, endpoint: Endpoint, max_connections: int | None, http_client: "httpx2.Client | None") -> None:
        super().__init__(endpoint)
        import httpx2

        from sie_sdk import _http

        self._owns_http = http_client is None
        self._http = http_client or httpx2.Client(limits=_http.limits(max_connections or 100))

    def close(self) -> None:
        """Closes the connections."""
        if self._owns_http:
            self._http.close()

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
        under_way: deque[Callable[[], list[R]]] = deque()

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
                    elif isinstance(move, Give):
                        yield from move.results
                    elif isinstance(move, Finish):
                        try:
                            answer = under_way.popleft()()
                        except SIEError as error:
                            answer = error
                    elif move.alone:
                        under_way.append(partial(self._run, move.call, move.trace, time.sleep))
                    else:
                        threads = threads or ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="sie-sdk")
                        run = copy_context().run
                        under_way.append(threads.submit(run, self._run, move.call, move.trace, pause).result)
            finally:
                given_up.set()
                if threads is not None:
                    # Not waited for: an attempt that is under way ends with its answer, which nobody needs any more.
                    threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, call: Call[T]) -> T:
        with self._tracing() as trace:
            return self._run(call, trace, time.sleep)

    def _run(self, call: Call[T], trace: Trace, pause: Callable[[float], None]) -> T:
        steps = exchange(call, trace, self._skew, self._clock)
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

    def _send(self, attempt: Attempt) -> Reply | Failure:
        from sie_sdk import _http

        since = time.monotonic()
        try:
            with self._http.stream(**_http.arguments(attempt)) as response:
                return _http.read(response, attempt.total_s, since)
        except _http.TransportError as error:
            return _http.failure(error)
