"""One call's share of the queue: its sequences, its head, and the future its results go to."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sie_server.answering import ANSWERING, Stage
from sie_server.engine.sequence import Sequence
from sie_server.nn.heads import Head

if TYPE_CHECKING:
    from sie_server.models.model import Model

# In a trace; ten thousand documents would have thousands.
_MOST_BATCHES = 64


class Request:
    """Sequences of one call that wait for the device, longest first.

    `pending` and `deficit` belong to the scheduler and change under its lock; results are delivered on the event loop.
    added, started, ended: `time.perf_counter()` when it was queued, when its first batch was taken and when its last
    one was through. origin: id of the HTTP request that it is for. batches: those it was in; None unless it is traced.
    """

    __slots__ = (
        "_missing",
        "_results",
        "added",
        "batches",
        "deficit",
        "ended",
        "future",
        "head",
        "model",
        "origin",
        "pending",
        "started",
        "tokens",
    )

    def __init__(
        self, model: "Model", head: Head, sequences: Iterable[Sequence], future: "asyncio.Future[list[Any]]"
    ) -> None:
        self.model = model
        self.head = head
        self.future = future
        # Neighbours of equal length share one attention call, and the short rest fills the last batches evenly.
        self.pending = deque(sorted(sequences, key=len, reverse=True))
        for index, sequence in enumerate(sequences):
            sequence.index = index
            sequence.request = self
        self.tokens = sum(map(len, self.pending))
        self.deficit = 0
        self.added = time.perf_counter()
        self.started: float | None = None
        self.ended = self.added
        answering = ANSWERING.get()
        self.origin = answering and answering.request_id
        self.batches: list[Stage] | None = [] if answering and answering.stages is not None else None
        self._results: list[Any] = [None] * len(self.pending)
        self._missing = len(self.pending)

    def deliver(self, index: int, result: Any, ended: float) -> None:
        """Take the result of sequence `index`, whose batch ended then; the last one completes the future."""
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
