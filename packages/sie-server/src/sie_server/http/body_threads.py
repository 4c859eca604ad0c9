"""Threads for large bodies and answers, which would hold up the event loop."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from sie_server.stepwise import clear_one_by_one

T = TypeVar("T")
# Large bodies and answers that are in the making at once: more would only take memory.
_THREADS = 2


class BodyThreads:
    """Two threads that decode, encode and free what is large. Clients take turns, and so do the works of each client.

    Lives on the event loop.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="body")
        self._idle = _THREADS
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def run(self, client: str, work: Callable[[], T]) -> T:
        """The result of a client's work that takes long. If cancelled, work that has begun is completed."""
        loop = asyncio.get_running_loop()
        if self._idle:
            self._idle -= 1
        else:
            turn = loop.create_future()
            self._waiting.setdefault(client, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._pass_on()
                raise
        working = loop.run_in_executor(self._executor, work)
        working.add_done_callback(lambda _: self._pass_on())
        return await asyncio.shield(working)

    def _pass_on(self) -> None:
        """Give an idle thread to the next client."""
        while self._waiting:
            client, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            if not turns:
                del self._waiting[client]
            if turn.done():
                continue
            if turns:
                self._waiting.move_to_end(client)
            turn.set_result(None)
            return
        self._idle += 1

    def free(self, elements: list[Any]) -> None:
        """Free the elements of a list, in the background."""
        with suppress(RuntimeError):  # the server shuts down
            self._executor.submit(clear_one_by_one, elements)

    def close(self) -> None:
        """Let the threads go."""
        self._executor.shutdown(wait=False, cancel_futures=True)
