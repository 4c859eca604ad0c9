"""Whose tokens go into the next batch: short requests first, deficit round robin over the others, no timer.

A batch forms because requests arrive while the device is busy; an idle device starts at once. A turn of a long request
is worth one token budget (Shreedhar and Varghese 1995 with the budget as quantum), so one that comes to a queue of n
others waits for at most n turns. A short request, of no more than a budget per worker, waits for the next free worker,
however many long ones there are, as a sparse flow does in FQ-CoDel (RFC 8290); between two short ones a long one has a
turn, so that none starves.
"""

import threading
import time
from collections import deque
from typing import NamedTuple

from sie_server.engine.request import Request
from sie_server.engine.sequence import Sequence


class Waiting(NamedTuple):
    """What of one model waits for the device."""

    requests: int = 0
    sequences: int = 0
    tokens: int = 0


class Scheduler:
    """The queue of one device, counted in tokens. Thread-safe.

    `budget`: most tokens in a batch; a longer sequence makes a batch alone. `workers`: how many threads take batches.
    """

    def __init__(self, budget: int, workers: int = 1) -> None:
        self.budget = budget
        self.workers = workers
        self._short: deque[Request] = deque()
        self._long: deque[Request] = deque()
        self._long_is_due = False
        self._condition = threading.Condition()
        self._idle = 0
        self._tokens = 0
        self._closed = False

    @property
    def tokens(self) -> int:
        """Tokens that wait, not counting those on the device."""
        return self._tokens

    def waiting(self) -> dict[str, Waiting]:
        """What waits, by the id of its model."""
        waiting: dict[str, Waiting] = {}
        with self._condition:
            for request in (*self._short, *self._long):
                before = waiting.get(request.model.id, Waiting())
                tokens = before.tokens + sum(map(len, request.pending))
                waiting[request.model.id] = Waiting(
                    before.requests + 1, before.sequences + len(request.pending), tokens
                )
        return waiting

    def add(self, request: Request) -> None:
        """Queue all of a request's sequences."""
        with self._condition:
            queue = self._queue(request)
            if queue is self._short:
                request.deficit = request.tokens
            queue.append(request)
            self._tokens += request.tokens
            self._condition.notify_all()

    def discard(self, request: Request) -> None:
        """Forget what is left of a request; a no-op when nothing is."""
        with self._condition:
            if request.pending:
                self._queue(request).remove(request)
                self._tokens -= sum(map(len, request.pending))
                request.pending.clear()

    def next_batch(self) -> list[Sequence]:
        """Block until there is work, then take a batch; all its sequences are for one model. Empty: closed."""
        with self._condition:
            self._idle += 1
            while not (self._short or self._long or self._closed):
                self._condition.wait()
            # Workers that wait as well get an even share of what there is; those that will be free soon find something
            # left, so that all finish at about the same time. Below half a budget a batch would cost more than that.
            share = -(-self._tokens // self._idle)
            rest = max(-(-self._tokens // self.workers), self.budget // 2)
            self._idle -= 1
            return self._take(min(self.budget, share, rest))

    def close(self) -> None:
        """Let waiting workers go once the queue is empty."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _queue(self, request: Request) -> deque[Request]:
        return self._short if request.tokens <= self.budget * self.workers else self._long

    def _take(self, limit: int) -> list[Sequence]:
        batch: list[Sequence] = []
        others: list[Request] = []  # requests for another model keep their place
        room = limit
        now = time.perf_counter()
        while self._short or self._long:
            queue = self._short if self._short and not (self._long and self._long_is_due) else self._long
            request = queue.popleft()
            if batch and batch[0].request is not None and request.model is not batch[0].request.model:
                others.append(request)
                continue
            if queue is self._long:
                request.deficit += self.budget
            full = False
            while request.pending and len(request.pending[0]) <= request.deficit and not full:
                if batch and len(request.pending[0]) > room:
                    full = True
                    continue
                sequence = request.pending.popleft()
                batch.append(sequence)
                room -= len(sequence)
                request.deficit -= len(sequence)
                request.started = request.started or now
            if full:
                # The turn goes on in the next batch: give back what the next visit will add again.
                if queue is self._long:
                    request.deficit -= self.budget
                queue.appendleft(request)
                break
            self._long_is_due = queue is self._short
            if request.pending:
                queue.append(request)
        for request in reversed(others):
            self._queue(request).appendleft(request)
        self._tokens -= sum(map(len, batch))
        return batch
