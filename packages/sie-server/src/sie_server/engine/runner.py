"""The device threads: take a batch, pack it, run it, hand the results back."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch

from sie_server.engine.packed import Packed
from sie_server.engine.request import Request
from sie_server.engine.scheduler import Scheduler
from sie_server.engine.sequence import Sequence

_LOG = logging.getLogger(__name__)

Observe = Callable[[list[Sequence], float], None]


class Runner:
    """Threads that share one device and one set of weights.

    On a CPU every thread runs its own batch on one core: that beats one batch spread over all cores, because nothing
    waits for the slowest core between two layers. `observe(batch, seconds)` is called on the event loop per batch.
    """

    def __init__(
        self, scheduler: Scheduler, loop: asyncio.AbstractEventLoop, threads: int, on_cpu: bool, observe: Observe
    ) -> None:
        self._scheduler = scheduler
        self._loop = loop
        self._on_cpu = on_cpu
        self._observe = observe
        self._threads = [threading.Thread(target=self._run, name=f"device-{i}", daemon=True) for i in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, timeout: float) -> None:
        """Wait for the threads to finish after the scheduler was closed."""
        for thread in self._threads:
            thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether every device thread runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        if self._on_cpu:
            torch.set_num_threads(1)
        with torch.inference_mode():
            while batch := self._scheduler.next_batch():
                self._step(batch)

    def _step(self, batch: list[Sequence]) -> None:
        started = time.perf_counter()
        answers = self._answer(batch)
        ended = time.perf_counter()
        self._post(lambda: self._deliver(batch, answers, started, ended))

    def _answer(self, batch: list[Sequence]) -> list[Any]:
        """A result or an exception per sequence. A batch that fails is run again request by request."""
        try:
            return forward(batch)
        except Exception as error:  # a request must not take the thread, or its neighbours, with it
            parts = [list(part) for _, part in groupby(batch, key=_request)]
            if len(parts) > 1:
                return [answer for part in parts for answer in self._answer(part)]
            _LOG.exception("%s: inference failed for %d sequences", _request(batch[0]).model.id, len(batch))
            return [error] * len(batch)

    def _deliver(self, batch: list[Sequence], answers: list[Any], started: float, ended: float) -> None:
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
    """A sequence that nobody reads and that rounds a batch up, to one of 48 sizes where it has up to 512 tokens.

    For every number of rows oneDNN compiles each product anew: 0.6 MB and 0.7 ms, of which it keeps a thousand. At most
    3 tokens below 64, 15 below 1,024, and 3 % of more; never longer than any model's positions.
    """
    size = 2 ** tokens.bit_length()
    step = max(4, min(size // 16, 16), min(size // 64, 128))
    ids = np.zeros(-tokens % step, np.int32)
    return [Sequence(ids, ids)] if len(ids) else []


def _prefix(sequence: Sequence) -> Sequence | None:
    """The prefix, where it is still to be computed."""
    prefix = sequence.prefix
    return None if prefix is None or prefix.layers is not None else prefix.sequence


def _request(sequence: Sequence) -> Request:
    assert sequence.request is not None
    return sequence.request
