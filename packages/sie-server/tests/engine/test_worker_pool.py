"""Work in steps: turns go round clients and jobs, what is given up ends, long steps leave a thread to the others."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.engine.worker_pool import WorkerPool
from sie_server.stepwise import LONG_STEP, Steps, run_steps


def run(threads: int, work: "Any") -> Any:
    async def with_pool() -> Any:
        pool = WorkerPool(threads, "test")
        try:
            return await asyncio.wait_for(work(pool), 30)
        finally:
            pool.close()

    return asyncio.run(with_pool())


def steps(name: str, count: int, log: list[str]) -> Steps[str]:
    for _ in range(count):
        log.append(name)
        yield 0
    return name


def held(gate: threading.Event, size: int = 0) -> Steps[None]:
    """Two steps, of which the second waits."""
    yield size
    assert gate.wait(30)


async def started(*jobs: Coroutine[Any, Any, Any]) -> list["asyncio.Task[Any]"]:
    tasks = []
    for job in jobs:
        tasks.append(asyncio.ensure_future(job))
        await asyncio.sleep(0)
    return tasks


def test_turns_go_round_the_clients_and_round_the_jobs_of_each() -> None:
    log: list[str] = []

    async def work(pool: WorkerPool) -> None:
        gate = threading.Event()
        tasks = await started(
            pool.run(SchedulingParams("x"), held(gate)),
            pool.run(SchedulingParams("a"), steps("a1", 3, log)),
            pool.run(SchedulingParams("a"), steps("a2", 3, log)),
            pool.run(SchedulingParams("b"), steps("b", 3, log)),
        )
        while pool._waiting.keys() != {"a", "b"}:
            await asyncio.sleep(0.001)
        gate.set()
        assert await asyncio.gather(*tasks) == [None, "a1", "a2", "b"]

    run(1, work)
    # Whoever was first while the gate was held may have had some turns alone.
    rest = "".join(name[0] for name in log)
    assert "aaaa" not in rest
    assert {name: log.count(name) for name in log} == {"a1": 3, "a2": 3, "b": 3}


@pytest.mark.parametrize("late", [False, True])
def test_cancelled_work_takes_no_further_step(late: bool) -> None:
    """late: because of its deadline, whose answer waits for no step."""
    gate, begun, closed = threading.Event(), threading.Event(), threading.Event()

    def endless() -> Steps[None]:
        try:
            while True:
                begun.set()
                assert gate.wait(30)
                yield 0
        finally:
            closed.set()

    async def work(pool: WorkerPool) -> None:
        params = SchedulingParams(deadline=time.perf_counter() if late else None)
        [task] = await started(pool.run(params, endless()))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        log: list[str] = []
        [waiting] = await started(pool.run(SchedulingParams(), steps("never", 1, log)))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.1)
        assert bool(done) is late
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not closed.is_set():
            await asyncio.sleep(0.001)
        assert log == []

    run(1, work)


def test_work_is_cancelled_that_has_ended_unheard() -> None:
    gate, begun, passed = threading.Event(), threading.Event(), threading.Event()

    def last() -> Steps[None]:
        begun.set()
        assert gate.wait(30)
        yield from ()

    def following() -> Steps[None]:
        passed.set()
        yield 0

    async def work(pool: WorkerPool) -> None:
        [task, other] = await started(
            pool.run(SchedulingParams("a"), last()), pool.run(SchedulingParams("b"), following())
        )
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        gate.set()
        # Until the only thread has gone on, so that the event loop hears of the cancellation before the end.
        assert passed.wait(30)
        with pytest.raises(asyncio.CancelledError):
            await task
        await other

    run(1, work)


def test_long_steps_leave_one_thread_to_the_others() -> None:
    async def work(pool: WorkerPool) -> str:
        gate = threading.Event()
        tasks = await started(
            *[pool.run(SchedulingParams("greedy"), held(gate, LONG_STEP + 1), LONG_STEP + 1) for _ in range(5)]
        )
        answer: str = await pool.run(SchedulingParams(), steps("short", 3, []))
        gate.set()
        await asyncio.gather(*tasks)
        return answer

    assert run(2, work) == "short"


def test_an_error_is_the_callers() -> None:
    def wrong() -> Steps[None]:
        yield 0
        raise ValueError("no")

    async def work(pool: WorkerPool) -> str:
        with pytest.raises(ValueError, match="no"):
            await pool.run(SchedulingParams(), wrong())
        answer: str = await pool.run(SchedulingParams(), steps("next", 1, []))
        return answer

    assert run(1, work) == "next"
    assert run_steps(steps("all", 2, [])) == "all"
