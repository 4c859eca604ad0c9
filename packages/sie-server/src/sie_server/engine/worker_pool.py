"""Threads that take the steps of many jobs, so that none waits for all of another."""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from typing import Any, Generic, TypeVar

from sie_server.cooperative import LONG, Steps
from sie_server.engine.scheduling_params import TIMER_SLACK_S, SchedulingParams

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class _Job(Generic[T]):
    """Steps of somebody who waits for `future`, and about how many characters the next one reads."""

    __slots__ = ("client", "future", "given_up", "loop", "running", "size", "steps")

    def __init__(self, client: str, steps: Steps[T], size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self.steps = steps
        self.size = size
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.running = False
        self.given_up = False


class WorkerPool:
    """Threads for work in steps. Turns, of one step each, go round the clients, and round the jobs of each.

    Where there are several threads, one of them takes no long steps, so that short ones never wait for those.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._most = threads
        self._name = name
        self._condition = threading.Condition()
        self._waiting: OrderedDict[str, OrderedDict[_Job[Any], None]] = OrderedDict()
        self._threads = 0
        self._idle = 0
        self._long = 0
        self._closed = False

    async def run(self, params: SchedulingParams, steps: Steps[T], size: int = 0) -> T:
        """What comes of the steps. size: about how many characters the first one reads.

        When it is cancelled no further step is taken, and it ends when nothing is held on to any more; at once where
        that is because of the deadline, since a client waits for that answer.
        """
        job = _Job(params.client, steps, size, asyncio.get_running_loop())
        with self._condition:
            self._put(job)
        try:
            return await asyncio.shield(job.future)
        except asyncio.CancelledError:
            if not self._withdrawn(job) and not params.expired(time.perf_counter() + TIMER_SLACK_S):
                await asyncio.wait({job.future})
            raise

    def later(self, steps: Steps[None]) -> None:
        """Take steps that nobody waits for."""
        job = _Job("", steps, 0, asyncio.get_running_loop())
        with self._condition:
            self._put(job)

    def close(self) -> None:
        """Let the threads go; what waits is given up."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _put(self, job: _Job[Any]) -> None:
        self._waiting.setdefault(job.client, OrderedDict())[job] = None
        if self._idle:
            self._condition.notify()
        elif self._threads < self._most and not self._closed:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _withdrawn(self, job: _Job[Any]) -> bool:
        """Whether the job is gone already; if not it goes when its step is over."""
        with self._condition:
            job.given_up = True
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
        """The next job, whose client has its next turn behind all others."""
        reserved = self._most > 1 and self._long >= self._most - 1
        for client, jobs in self._waiting.items():
            job = next((job for job in jobs if not reserved or job.size <= LONG), None)
            if job is not None:
                self._remove(job)
                if client in self._waiting:
                    self._waiting.move_to_end(client)
                job.running = True
                self._long += job.size > LONG
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
        size, result, error, over = 0, None, None, False
        try:
            size = next(job.steps)
        except StopIteration as stop:
            result, over = stop.value, True
        except BaseException as raised:  # whoever waits is told; the thread goes on
            error, over = raised, True
        with self._condition:
            self._long -= job.size > LONG
            job.running = False
            if not over and not job.given_up:
                job.size = size
                self._put(job)
                return
        if job.given_up:
            job.steps.close()
        self._post(job, result, error)

    def _post(self, job: _Job[Any], result: Any, error: BaseException | None) -> None:
        try:
            job.loop.call_soon_threadsafe(_settle, job, result, error)
        except RuntimeError:
            _LOG.debug("the event loop is gone; a result dropped")


def _settle(job: _Job[Any], result: Any, error: BaseException | None) -> None:
    if job.given_up:
        job.future.cancel()
    elif error is not None:
        job.future.set_exception(error)
    else:
        job.future.set_result(result)
