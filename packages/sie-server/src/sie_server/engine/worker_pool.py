"""Threads that run jobs step by step, so that no job waits for the whole of another one."""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from typing import Any, Generic, TypeVar

from sie_server.engine.deadline import TIMER_SLACK_S, expired
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.stepwise import LONG_STEP, Steps

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class _Job(Generic[T]):
    """Steps whose result `future` gets. size: estimated number of characters that the next step reads.

    running: from the time it is taken until it waits again, or has ended and `future` may not know yet.
    """

    __slots__ = ("cancelled", "client", "future", "loop", "running", "size", "steps")

    def __init__(self, client: str, steps: Steps[T], size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self.steps = steps
        self.size = size
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.running = False
        self.cancelled = False


class WorkerPool:
    """Threads that run work in steps. Clients take turns of one step, and so do the jobs of each client.

    Unless there is only one thread, one is kept free of long steps, so that short steps never wait for long ones.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._max_threads = threads
        self._name = name
        self._condition = threading.Condition()
        self._waiting: OrderedDict[str, OrderedDict[_Job[Any], None]] = OrderedDict()
        self._threads = 0
        self._idle = 0
        self._long = 0
        self._closed = False

    async def run(self, params: SchedulingParams, steps: Steps[T], size: int = 0) -> T:
        """Run the steps and return their result. size: estimated number of characters that the first step reads.

        If cancelled, no further step is run, and this returns once the step that is running has ended and holds nothing
        any more; at once if the deadline has passed, because a client waits for that answer.
        """
        job = _Job(params.client, steps, size, asyncio.get_running_loop())
        with self._condition:
            self._put(job)
        try:
            return await asyncio.shield(job.future)
        except asyncio.CancelledError:
            if not self._withdraw(job) and not expired(params.deadline, time.perf_counter() + TIMER_SLACK_S):
                await asyncio.wait({job.future})
            raise

    def run_in_background(self, steps: Steps[None]) -> None:
        """Run steps in the background."""
        job = _Job("", steps, 0, asyncio.get_running_loop())
        with self._condition:
            self._put(job)

    def close(self) -> None:
        """End the threads; jobs that wait are dropped."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _put(self, job: _Job[Any]) -> None:
        self._waiting.setdefault(job.client, OrderedDict())[job] = None
        if self._idle:
            self._condition.notify()
        elif self._threads < self._max_threads and not self._closed:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _withdraw(self, job: _Job[Any]) -> bool:
        """Cancel a job. Returns whether it has ended; otherwise it ends with the step that is running."""
        with self._condition:
            job.cancelled = True
            if job.running or job.future.done():
                return job.future.done()
            self._remove(job)
        job.steps.close()
        job.future.cancel()
        return True

    def _remove(self, job: _Job[Any]) -> None:
        jobs = self._waiting[job.client]
        del jobs[job]
        if not jobs:
            del self._waiting[job.client]

    def _take(self) -> _Job[Any] | None:
        """Remove and return the next job; its client's next turn comes after those of all others."""
        reserved = self._max_threads > 1 and self._long >= self._max_threads - 1
        for client, jobs in self._waiting.items():
            job = next((job for job in jobs if not reserved or job.size <= LONG_STEP), None)
            if job is not None:
                self._remove(job)
                if client in self._waiting:
                    self._waiting.move_to_end(client)
                job.running = True
                self._long += job.size > LONG_STEP
                return job
        return None

    def _work(self) -> None:
        while True:
            with self._condition:
                while (job := self._take()) is None:
                    if self._closed:
                        return
                    self._idle += 1
                    self._condition.wait()
                    self._idle -= 1
            self._step(job)
            del job

    def _step(self, job: _Job[Any]) -> None:
        size, result, error, ended = 0, None, None, False
        try:
            size = next(job.steps)
        except StopIteration as stop:
            result, ended = stop.value, True
        except BaseException as raised:  # raised where the job is awaited; the thread goes on
            error, ended = raised, True
        with self._condition:
            self._long -= job.size > LONG_STEP
            if not ended and not job.cancelled:
                job.running = False
                job.size = size
                self._put(job)
                return
        if job.cancelled:
            job.steps.close()
        self._post(job, result, error)

    def _post(self, job: _Job[Any], result: Any, error: BaseException | None) -> None:
        try:
            job.loop.call_soon_threadsafe(_complete, job, result, error)
        except RuntimeError:
            _LOG.debug("the event loop is closed; a result dropped")


def _complete(job: _Job[Any], result: Any, error: BaseException | None) -> None:
    if job.cancelled:
        job.future.cancel()
    elif error is not None:
        job.future.set_exception(error)
    else:
        job.future.set_result(result)
