"""Whose tokens go into the next batch: deficit round robin over requests, no timer.

A batch forms because requests arrive while the device is busy; an idle device starts at once. Each request's turn is
worth one token budget (Shreedhar and Varghese 1995 with the budget as quantum), so a request of any size that comes
to a queue of n others waits for at most n turns, and behind one giant for one.
"""

import threading
import time
from collections import deque

from sie_server.engine.request import Request
from sie_server.engine.sequence import Sequence


class Scheduler:
    """The queue of one device, counted in tokens. Thread-safe.

    `budget`: most tokens in a batch; a longer sequence makes a batch alone. `workers`: how many threads take batches.
    """

    def __init__(self, budget: int, workers: int = 1) -> None:
        self.budget = budget
        self.workers = workers
        self._turns: deque[Request] = deque()
        self._condition = threading.Condition()
        self._idle = 0
        self._tokens = 0
        self._closed = False

    @property
    def tokens(self) -> int:
        """Tokens that wait, not counting those on the device."""
        return self._tokens

    def waiting(self) -> dict[str, tuple[int, int]]:
        """Requests, and sequences of theirs, that wait, by the id of their model."""
        waiting: dict[str, tuple[int, int]] = {}
        with self._condition:
            for request in self._turns:
                requests, sequences = waiting.get(request.model.id, (0, 0))
                waiting[request.model.id] = (requests + 1, sequences + len(request.pending))
        return waiting

    def add(self, request: Request) -> None:
        """Queue all of a request's sequences."""
        with self._condition:
            self._turns.append(request)
            self._tokens += request.tokens
            self._condition.notify_all()

    def discard(self, request: Request) -> None:
        """Forget what is left of a request; a no-op when nothing is."""
        with self._condition:
            if request.pending:
                self._turns.remove(request)
                self._tokens -= sum(map(len, request.pending))
                request.pending.clear()

    def next_batch(self) -> list[Sequence]:
        """Block until there is work, then take a batch; all its sequences are for one model. Empty: closed."""
        with self._condition:
            self._idle += 1
            while not self._turns and not self._closed:
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

    def _take(self, limit: int) -> list[Sequence]:
        batch: list[Sequence] = []
        others: list[Request] = []  # requests for another model keep their place
        room = limit
        now = time.perf_counter()
        while self._turns:
            request = self._turns.popleft()
            if batch and batch[0].request is not None and request.model is not batch[0].request.model:
                others.append(request)
                continue
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
                request.deficit -= self.budget
                self._turns.appendleft(request)
                break
            if request.pending:
                self._turns.append(request)
        self._turns.extendleft(reversed(others))
        self._tokens -= sum(map(len, batch))
        return batch
