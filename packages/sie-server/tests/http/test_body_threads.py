"""The threads for large bodies: clients take turns, and work that nobody waits for any more is not begun."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from sie_server.http.body_threads import BodyThreads


def test_clients_take_turns() -> None:
    done: list[str] = []
    held, go = threading.Event(), threading.Event()

    def work(name: str, event: threading.Event = go) -> Callable[[], None]:
        def run() -> None:
            assert event.wait(30)
            done.append(name)

        return run

    async def main() -> None:
        threads = BodyThreads()
        first = asyncio.create_task(threads.run("flood", work("flood 0", held)))  # which leaves one thread
        flood = [asyncio.create_task(threads.run("flood", work(f"flood {i}"))) for i in (1, 2, 3, 4)]
        other = asyncio.create_task(threads.run("other", work("other")))
        await asyncio.sleep(0)
        flood[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await flood[1]
        go.set()
        await asyncio.gather(flood[0], *flood[2:], other)
        held.set()
        await first
        threads.close()

    asyncio.run(main())
    assert done == ["flood 1", "flood 3", "other", "flood 4", "flood 0"]


def test_a_thread_that_works_for_nobody_is_not_idle() -> None:
    go = threading.Event()

    async def main() -> None:
        threads = BodyThreads()
        left = [asyncio.create_task(threads.run("a", lambda: go.wait(30))) for _ in range(2)]
        await asyncio.sleep(0)
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        last = asyncio.create_task(threads.run("b", lambda: 7))
        await asyncio.sleep(0.05)
        assert not last.done()
        go.set()
        assert await last == 7
        with pytest.raises(ZeroDivisionError):
            await threads.run("b", lambda: 1 // 0)
        assert await threads.run("b", lambda: 8) == 8
        threads.close()

    asyncio.run(main())
