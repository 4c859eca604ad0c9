"""The device threads: take a batch, pack it, run it, hand the results back."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch

from sie_server.checkpoints.load_errors import ran_out
from sie_server.engine.out_of_memory import Recovery
from sie_server.engine.request import Request
from sie_server.engine.scheduler import Scheduler
from sie_server.metrics import Metrics
from sie_server.nn.kernels.library import computing, use_cores
from sie_server.nn.packed import Packed
from sie_server.nn.row_invariance import next_size
from sie_server.request_context import Stage
from sie_server.tokenization.sequence import Sequence

_LOG = logging.getLogger(__name__)

Observe = Callable[[list[Sequence], float], None]


@dataclass(slots=True)
class Work:
    """What a device thread is at: its batch, empty while it waits, and the how manieth that is."""

    thread: threading.Thread
    batch: list[Sequence] = field(default_factory=list)
    batches: int = 0

    @property
    def model_id(self) -> str:
        return _request(self.batch[0]).model.id if self.batch else ""


class Runner:
    """Threads that share one device and one set of weights.

    On a CPU every thread runs its own batch on one core: that beats one batch spread over all cores, because nothing
    waits for the slowest core between two layers. Cores that have nothing to do help with the layers of others.
    `observe(batch, seconds)` is called per batch, on the event loop that runs now, `lost(reason)` on a device thread
    that ends because of an error.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        device: torch.device,
        metrics: Metrics,
        observe: Observe,
        lost: Callable[[str], None],
    ) -> None:
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._on_cpu = device.type == "cpu"
        self._recovery = Recovery(scheduler, metrics)
        self._observe = observe
        self._lost = lost
        self._works = [
            Work(threading.Thread(target=self._run, args=(i,), name=f"device-{i}", daemon=True))
            for i in range(scheduler.workers)
        ]

    def start(self) -> None:
        if self._on_cpu:
            use_cores(len(self._works))
        for work in self._works:
            work.thread.start()

    def join(self, timeout: float) -> None:
        """Wait for the threads to finish after the scheduler was closed, so many seconds in all."""
        end = time.monotonic() + timeout
        for work in self._works:
            work.thread.join(max(end - time.monotonic(), 0))

    @property
    def alive(self) -> bool:
        """Whether every device thread runs."""
        return all(work.thread.is_alive() for work in self._works)

    def work(self) -> list[Work]:
        """What each thread is at now."""
        return [replace(work) for work in self._works]

    def _run(self, index: int) -> None:
        work = self._works[index]
        try:
            if self._on_cpu:
                torch.set_num_threads(1)
            with torch.inference_mode():
                while batch := self._scheduler.next_batch():
                    work.batch, work.batches = batch, work.batches + 1
                    with computing() if self._on_cpu else nullcontext():
                        self._step(batch)
                    work.batch = []
                    del batch  # while there is no work, its model may have to go
        except BaseException as error:  # nobody else would see it, and clients would wait for ever
            _LOG.critical("%s died at a batch of model '%s'", work.thread.name, work.model_id, exc_info=True)
            self._lost(f"{work.thread.name} died: {error!r}")

    def _step(self, batch: list[Sequence]) -> None:
        started = time.perf_counter()
        answers = self._answer(batch)
        ended = time.perf_counter()
        self._post(lambda: self._deliver(batch, answers, started, ended))

    def _answer(self, batch: list[Sequence], splits: int = 0) -> list[Any]:
        """A result or an exception per sequence. A batch that fails is run again request by request.

        splits: how often it was split for want of memory.
        """
        try:
            return forward(batch)
        except torch.AcceleratorError:
            raise  # this process can do nothing more with the device
        except Exception as error:  # a request must not take the thread, or its neighbours, with it
            out_of_memory = ran_out(error)
            parts = [list(part) for _, part in groupby(batch, key=_request)]
            if not out_of_memory and len(parts) == 1:
                request = _request(batch[0])
                named = {"request_id": request.origin, "model": request.model.id}
                _LOG.exception("%s: inference failed for %d sequences", request.model.id, len(batch), extra=named)
                return [error] * len(batch)
        if out_of_memory:
            _LOG.warning("%s: out of memory in a batch of %d sequences", _request(batch[0]).model.id, len(batch))
            return self._recovery.retry(batch, splits, self._answer)
        return [answer for part in parts for answer in self._answer(part, splits)]

    def _deliver(self, batch: list[Sequence], answers: list[Any], started: float, ended: float) -> None:
        for request in {_request(sequence) for sequence in batch}:
            if request.batches is not None:
                shape = {"sie.tokens": sum(map(len, batch)), "sie.sequences": len(batch)}
                request.batches.append(Stage("batch", started, ended, shape))
        for sequence, answer in zip(batch, answers, strict=True):
            request = _request(sequence)
            if isinstance(answer, Exception):
                self._scheduler.discard(request)
                request.fail(answer)
            else:
                request.deliver(sequence.index, answer, ended)
        # Behind the coroutines that the results have woken.
        self._loop.call_soon(self._observe, batch, ended - started)

    def _post(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            _LOG.debug("the event loop is gone; results dropped")


def forward(batch: list[Sequence]) -> list[Any]:
    """One result per sequence. All sequences are for one model; each request's head reads its own rows."""
    model = _request(batch[0]).model
    groups = [(head, list(group)) for (head, _), group in groupby(batch, key=lambda s: (_request(s).head, s.prefix))]
    leads: list[Sequence | None] = []
    for head, group in groups:
        lead = head.lead or _prefix(group[0])
        leads.append(None if lead in leads else lead)  # a request may have two turns in one batch
    led = [[*([] if lead is None else [lead]), *group] for lead, (_, group) in zip(leads, groups, strict=True)]
    sequences = list(chain.from_iterable(led))
    if model.few_sizes:
        sequences += _filler(sum(map(len, sequences)))
    packed = Packed.of(sequences, model.device)
    hidden, rows_each = model.encoder(packed)
    results: list[Any] = []
    row = first = 0
    for lead, (head, group) in zip(leads, groups, strict=True):
        if lead is not None:
            head.read_lead(hidden[row : row + rows_each[first]])
            row, first = row + rows_each[first], first + 1
        lengths = rows_each[first : first + len(group)]
        answers = head(hidden[row : row + sum(lengths)], lengths, group)
        assert len(answers) == len(group), f"{head} gave {len(answers)} results for {len(group)} sequences"
        results += answers
        row, first = row + sum(lengths), first + len(lengths)
    return results


def _filler(tokens: int) -> list[Sequence]:
    """A sequence that nobody reads and that rounds a batch up to the next number of rows that oneDNN sees.

    For every one of them it compiles each product anew: 0.6 MB and 0.7 ms. At most 31 tokens, never longer than any
    model's positions.
    """
    ids = np.zeros(next_size(tokens) - tokens, np.int32)
    return [Sequence(ids, ids)] if len(ids) else []


def _prefix(sequence: Sequence) -> Sequence | None:
    """The prefix, where it is still to be computed."""
    prefix = sequence.prefix
    return None if prefix is None or prefix.layers is not None else prefix.sequence


def _request(sequence: Sequence) -> Request:
    assert sequence.request is not None
    return sequence.request
