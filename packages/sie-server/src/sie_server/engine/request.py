"""One call's share of the queue: its sequences, its head, and the future its results go to."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.heads import Head
from sie_server.request_context import CURRENT, Stage
from sie_server.tokenization.sequence import Sequence

Weigh = Callable[[Any], None]
# In a trace; ten thousand documents would have thousands.
_MOST_BATCHES = 64


@dataclass(slots=True, eq=False)
class Scheduled:
    """A sequence in the queue, whose result is number `index` of its request's."""

    request: "Request"
    index: int
    sequence: Sequence


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences that go through one model together. There is at least one."""

    model: LoadedModel
    scheduled: list[Scheduled]

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.scheduled)

    @property
    def sequences(self) -> list[Sequence]:
        """Those sequences, in order."""
        return [entry.sequence for entry in self.scheduled]

    @property
    def requests(self) -> set["Request"]:
        """Whose sequences they are."""
        return {entry.request for entry in self.scheduled}

    @property
    def tokens(self) -> int:
        """Those of all sequences, without prefixes."""
        return sum(map(_tokens, self.scheduled))


class Request:
    """Sequences of one call that wait for the device, longest first; `lead` goes ahead of them, if there is one.

    `pending`, `waiting` (tokens in those), `allowance` and `dropped` (sequences that were given up) belong to the
    scheduler and change under its lock; results are delivered on the event loop.
    added, started, ended: `time.perf_counter()` when it was queued, when its first batch was taken and when its last
    one was through. origin: id of the HTTP request that it is for. batches: those it was in; None unless it is traced.
    weigh: is shown each result, and raises what the request fails with.
    """

    __slots__ = (
        "_missing",
        "_results",
        "_weigh",
        "added",
        "allowance",
        "batches",
        "dropped",
        "ended",
        "future",
        "head",
        "lead",
        "model",
        "origin",
        "params",
        "pending",
        "started",
        "tokens",
        "waiting",
    )

    def __init__(
        self,
        model: LoadedModel,
        head: Head,
        sequences: Iterable[Sequence],
        future: "asyncio.Future[list[Any]]",
        params: SchedulingParams = SchedulingParams(),
        weigh: Weigh | None = None,
    ) -> None:
        self.model = model
        self.head = head
        self.future = future
        self.params = params
        self._weigh = weigh
        # Neighbours of equal length share one attention call, and the short rest fills the last batches evenly.
        scheduled = [Scheduled(self, index, sequence) for index, sequence in enumerate(sequences)]
        self.lead = scheduled[0].sequence.prefix if head.lead is None and scheduled else head.lead
        self.pending = deque(sorted(scheduled, key=_tokens, reverse=True))
        self.tokens = self.waiting = sum(map(_tokens, scheduled))
        self.allowance = 0
        self.dropped = 0
        self.added = time.perf_counter()
        self.started: float | None = None
        self.ended = self.added
        context = CURRENT.get()
        self.origin = context and context.request_id
        self.batches: list[Stage] | None = [] if context and context.stages is not None else None
        self._results: list[Any] = [None] * len(self.pending)
        self._missing = len(self.pending)

    def take(self, batch: list[Scheduled], tokens: int, room: int, now: float) -> int:
        """Move sequences to the batch until they are `tokens` or more, or no more fit; how many tokens they are.

        An empty batch has room for any sequence.
        """
        taken = 0
        while self.pending and taken < tokens:
            length = _tokens(self.pending[0])
            if length > room - taken and batch:
                break
            batch.append(self.pending.popleft())
            taken += length
        self.waiting -= taken
        if taken and self.started is None:
            self.started = now
        return taken

    def drop(self) -> int:
        """Give up what waits; how many tokens that are."""
        tokens, self.waiting = self.waiting, 0
        self.dropped = len(self.pending)
        self.pending.clear()
        return tokens

    def deliver(self, index: int, result: Any, ended: float) -> None:
        """Take the result of sequence `index`, whose batch ended then; the last one completes the future."""
        if self._weigh is not None and not self.future.done():
            try:
                self._weigh(result)
            except SIEError as error:
                self.fail(error)
        self._results[index] = result
        self.ended = max(self.ended, ended)
        self._missing -= 1
        if not self._missing and not self.future.done():
            self.future.set_result(self._results)

    def stages(self) -> tuple[Stage, ...]:
        """What it went through: the queue, and its batches on the device; nothing if it was never taken."""
        if self.started is None:
            return ()
        batches = self.batches or []
        inference = {"sie.batches": len(batches), "sie.tokens": self.tokens, "sie.sequences": len(self._results)}
        return (
            Stage("queue", self.added, self.started),
            Stage("inference", self.started, max(self.started, self.ended), inference, tuple(batches[:_MOST_BATCHES])),
        )

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless there is an answer already."""
        if not self.future.done():
            self.future.set_exception(error)


def _tokens(scheduled: Scheduled) -> int:
    return len(scheduled.sequence)
