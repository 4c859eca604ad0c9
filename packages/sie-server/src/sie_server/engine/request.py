"""One call's work on the device: its sequences, its head, and the future its results go to."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial
from itertools import count, groupby, repeat
from operator import attrgetter
from typing import Any, NamedTuple

from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.heads import Head
from sie_server.request_context import CURRENT, Stage
from sie_server.tokenization.sequence import Sequence

Weigh = Callable[[Any], None]
# Batches that a trace lists; a request of ten thousand documents has thousands.
_MAX_TRACED_BATCHES = 64
_request: "Callable[[Scheduled], Request]" = attrgetter("request")
_tokens: "Callable[[Scheduled], int]" = attrgetter("tokens")


class Scheduled(NamedTuple):
    """A queued sequence; its result is number `position` of its request's results. tokens: of the sequence."""

    request: "Request"
    position: int
    sequence: Sequence
    tokens: int


# Of a tuple, without the call that names its fields.
_scheduled: Callable[[tuple["Request", int, Sequence, int]], Scheduled] = partial(tuple.__new__, Scheduled)


@dataclass(frozen=True, slots=True)
class Batch:
    """One or more sequences that go through a model together."""

    model: LoadedModel
    scheduled: list[Scheduled]

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.scheduled)

    def by_request(self) -> Iterator[tuple["Request", list[Scheduled]]]:
        """Consecutive sequences of the same request."""
        return ((request, list(entries)) for request, entries in groupby(self.scheduled, key=_request))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [*map(_tokens, self.scheduled)]

    @property
    def tokens(self) -> int:
        """Tokens of all sequences, leads not included."""
        return sum(map(_tokens, self.scheduled))


class Request:
    """Sequences of one call that wait for the device, longest first; `lead` goes ahead of them, if there is one.

    `pending`, `waiting` (tokens of those), `allowance` and `dropped` (number of sequences that were dropped) belong to
    the scheduler and change under its lock; results are delivered on the event loop.
    added, started, ended: `time.perf_counter()` when it was queued, when its first batch was taken and when its last
    batch ended. origin: id of the HTTP request. batches: stages for its trace; None unless it is traced. weigh: called
    with each result; the request fails with the error it raises.
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
        # Neighbours of equal length share one attention call, and short sequences fill up the last batches evenly.
        sequences = list(sequences)
        lengths = [len(sequence.ids) for sequence in sequences]
        scheduled = [*map(_scheduled, zip(repeat(self), count(), sequences, lengths))]
        self.lead = scheduled[0].sequence.prefix if head.lead is None and scheduled else head.lead
        self.pending = deque(sorted(scheduled, key=_tokens, reverse=True))
        self.tokens = self.waiting = sum(lengths)
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

    def take(self, batch: list[Scheduled], tokens: int, capacity: int, now: float) -> int:
        """Move sequences to the batch until they have `tokens` tokens or the next one does not fit into `capacity`.

        An empty batch has room for any sequence. Returns the number of tokens moved.
        """
        taken = 0
        if self.waiting <= min(tokens, capacity):
            batch += self.pending
            taken = self.waiting
            self.pending.clear()
        while self.pending and taken < tokens:
            length = self.pending[0].tokens
            if length > capacity - taken and batch:
                break
            batch.append(self.pending.popleft())
            taken += length
        self.waiting -= taken
        if taken and self.started is None:
            self.started = now
        return taken

    def drop(self) -> int:
        """Drop all sequences that wait; returns the number of their tokens."""
        tokens, self.waiting = self.waiting, 0
        self.dropped = len(self.pending)
        self.pending.clear()
        return tokens

    def deliver(self, entries: Items[Scheduled], results: Items[Any], ended: float) -> None:
        """Store the results of sequences whose batch ended at `ended`; the last ones complete the future.

        An exception among the results fails the request.
        """
        for entry, result in zip(entries, results, strict=True):
            self._results[entry.position] = result
            if isinstance(result, Exception):
                self.fail(result)
            elif self._weigh is not None and not self.future.done():
                try:
                    self._weigh(result)
                except SIEError as error:
                    self.fail(error)
        self.ended = max(self.ended, ended)
        self._missing -= len(entries)
        if not self._missing and not self.future.done():
            self.future.set_result(self._results)

    def stages(self) -> tuple[Stage, ...]:
        """Stages for the trace: the queue, then the device with its batches. Empty if no batch was taken."""
        if self.started is None:
            return ()
        batches = self.batches or []
        inference = {"sie.batches": len(batches), "sie.tokens": self.tokens, "sie.sequences": len(self._results)}
        return (
            Stage("queue", self.added, self.started),
            Stage(
                "inference",
                self.started,
                max(self.started, self.ended),
                inference,
                tuple(batches[:_MAX_TRACED_BATCHES]),
            ),
        )

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless the request has been answered."""
        if not self.future.done():
            self.future.set_exception(error)
