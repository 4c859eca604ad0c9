"""Threads for large bodies and answers, which would hold up the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from sie_server.stepwise import clear_one_by_one

T = TypeVar("T")
# Large bodies and answers that are in the making at once: more would only take memory.
_THREADS = 2


class BodyThreads:
    """Two threads that decode, encode and free what is large."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="body")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of work that takes long."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def free(self, elements: list[Any]) -> None:
        """Free the elements of a list, in the background."""
        with suppress(RuntimeError):  # the server shuts down
            self._executor.submit(clear_one_by_one, elements)

    def close(self) -> None:
        """Let the threads go."""
        self._executor.shutdown(wait=False, cancel_futures=True)
