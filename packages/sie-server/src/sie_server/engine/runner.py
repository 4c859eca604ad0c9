"""Device threads: take a batch, run it through its model, hand the results back."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from sie_server.engine.forward import forward
from sie_server.engine.out_of_memory import OutOfMemoryRecovery
from sie_server.engine.request import Batch, Request
from sie_server.engine.scheduler import Scheduler
from sie_server.metrics import Metrics
from sie_server.nn.device import is_out_of_memory
from sie_server.nn.kernels.library import computing, use_cores
from sie_server.request_context import Stage

_LOG = logging.getLogger(__name__)

# Seconds of computing after which the event loop goes on with something else.
_TURN_S = 0.001

Observe = Callable[[Batch, float], None]


@dataclass(slots=True)
class Work:
    """A device thread's current batch (None while it waits) and the number of batches it has taken."""

    thread: threading.Thread
    batch: Batch | None = None
    batches: int = 0

    @property
    def model_id(self) -> str:
        return "" if self.batch is None else self.batch.model.id


class Runner:
    """Device threads, which share one device and one set of weights.

    On a CPU every thread runs its own batch on one core. This is faster than one batch spread over all cores, because
    no core waits for the slowest one between layers. Idle cores help with the layers of other cores' batches. A request
    that takes less time than handing it to a thread is computed on the event loop.
    `observe(batch, seconds)` is called for each batch, on the event loop that is running now; `lost(reason)` on a
    device thread that ends with an error.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        device: torch.device,
        metrics: Metrics,
        observe: Observe,
        lost: Callable[[str], None],
        cores: Sequence[frozenset[int]] | None = None,
    ) -> None:
        """cores: those to which each thread is pinned; None: to none in particular."""
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._on_cpu = device.type == "cpu"
        self._recovery = OutOfMemoryRecovery(scheduler, metrics)
        self._observe = observe
        self._lost = lost
        self._cores = cores
        self._works = [
            Work(threading.Thread(target=self._run, args=(i,), name=f"device-{i}", daemon=True))
            for i in range(scheduler.workers)
        ]
        self._here = Work(threading.current_thread())
        # Tokens of brief requests that the event loop has to compute.
        self._owed = 0

    def start(self) -> None:
        if self._on_cpu:
            use_cores(len(self._works))
            torch.set_num_threads(1)
        for work in self._works:
            work.thread.start()

    def join(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the threads to finish, after the scheduler was closed."""
        end = time.monotonic() + timeout
        for work in self._works:
            work.thread.join(max(end - time.monotonic(), 0))

    @property
    def alive(self) -> bool:
        """Whether every device thread is running."""
        return all(work.thread.is_alive() for work in self._works)

    def work(self) -> list[Work]:
        """A copy of each thread's current `Work`, the event loop's included."""
        return [replace(work) for work in (*self._works, self._here)]

    def add(self, request: Request) -> None:
        """Queue a request."""
        if self._scheduler.add(request, computes=self._on_cpu):
            if not self._owed:
                # After the other requests that have arrived by now.
                self._loop.call_soon(self._compute_here)
            self._owed += request.tokens

    def _run(self, index: int) -> None:
        work = self._works[index]
        try:
            if self._cores is not None:
                self._pin(work.thread, self._cores[index])
            if self._on_cpu:
                torch.set_num_threads(1)
            with torch.inference_mode():
                while batch := self._scheduler.next_batch():
                    self._post(self._step(work, batch))
                    del batch  # while the thread waits, the model may be unloaded
        except BaseException as error:
            self._die(work, error)

    def _compute_here(self) -> None:
        """Compute brief requests on the event loop, in turns with what else it does."""
        started = time.perf_counter()
        try:
            with torch.inference_mode():
                while self._owed > 0 and (batch := self._scheduler.brief_batch()):
                    self._step(self._here, batch)()
                    self._owed -= batch.tokens
                    if self._owed > 0 and time.perf_counter() - started > _TURN_S:
                        self._loop.call_soon(self._compute_here)
                        return
            self._owed = 0
            self._scheduler.wake()
        except BaseException as error:
            self._die(self._here, error)

    def _die(self, work: Work, error: BaseException) -> None:
        """Report an error that ends a thread's work: otherwise it is unnoticed, and clients would wait for ever."""
        _LOG.critical("%s died in a batch of model '%s'", work.thread.name, work.model_id, exc_info=True)
        self._lost(f"{work.thread.name} died: {error!r}")

    @staticmethod
    def _pin(thread: threading.Thread, cores: frozenset[int]) -> None:
        try:
            os.sched_setaffinity(0, cores)  # 0: this thread
        except OSError as error:
            _LOG.warning("%s is not pinned to cores %s: %s", thread.name, sorted(cores), error.strerror)

    def _step(self, work: Work, batch: Batch) -> Callable[[], None]:
        """Compute a batch; returns what delivers its results, on the event loop."""
        work.batch, work.batches = batch, work.batches + 1
        with computing() if self._on_cpu else nullcontext():
            started, before = time.perf_counter(), time.thread_time()
            answers = self._answer(batch)
            ended = time.perf_counter()
            self._scheduler.observe(batch.model.id, batch.tokens, time.thread_time() - before)
        work.batch = None
        return lambda: self._deliver(batch, answers, started, ended)

    def _answer(self, batch: Batch, splits: int = 0) -> list[Any]:
        """Compute a result or an exception per sequence. A batch that fails is run again request by request.

        splits: how often the batch has been split for lack of memory.
        """
        try:
            return forward(batch)
        except torch.AcceleratorError:
            raise  # the device can no longer be used by this process
        except Exception as error:  # a request must not end the thread or fail its neighbours
            out_of_memory = is_out_of_memory(error)
            parts = [Batch(batch.model, part) for _, part in batch.by_request()]
            count = len(batch)
            if not out_of_memory and len(parts) == 1:
                log_fields = {"request_id": batch.scheduled[0].request.origin, "model": batch.model.id}
                _LOG.exception("%s: inference failed for %d sequences", batch.model.id, count, extra=log_fields)
                return [error] * count
        if out_of_memory:
            _LOG.warning("%s: out of memory in a batch of %d sequences", batch.model.id, count)
            return self._recovery.retry(batch, splits, self._answer)
        return [answer for part in parts for answer in self._answer(part, splits)]

    def _deliver(self, batch: Batch, answers: list[Any], started: float, ended: float) -> None:
        parts = [*batch.by_request()]
        for request in {request for request, _ in parts}:
            if request.batches is not None:
                shape = {"sie.tokens": batch.tokens, "sie.sequences": len(batch)}
                request.batches.append(Stage("batch", started, ended, shape))
        first = 0
        for request, entries in parts:
            results = answers[first : first + len(entries)]
            first += len(entries)
            if any(isinstance(result, Exception) for result in results):
                self._scheduler.discard(request)
            request.deliver(entries, results, ended)
        # After the coroutines that the results have woken.
        self._loop.call_soon(self._observe, batch, ended - started)

    def _post(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            _LOG.debug("the event loop is closed; results dropped")
