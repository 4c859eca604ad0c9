"""The queue of one device: whose tokens go into the next batch. No timer.

A batch forms because requests arrive while the device is busy; an idle device starts at once. Whose turn it is
(`fair_queue.py`) is decided in this order:

1. Priority. "interactive", "normal" and "batch" requests share the device 16 : 4 : 1 while they all wait. A class that
   had nothing to do for a while is served at once. None starves: of three that wait, "batch" has every 21st token.
2. Length. A short request, of no more than a budget per worker, waits for the next free worker, however many long ones
   there are, as a sparse flow does in FQ-CoDel (RFC 8290). Where both wait, short and long ones share workers : 1. A
   batch for short ones has a worker's share of those that wait, or half a budget if that is more.
3. Client. Turns go round the clients, a budget per turn for long requests, so that a client with a hundred requests has
   no more of the device than one with a single request.
4. Request. A client's short requests come in order, its long ones in turns of a budget: one that comes to n others
   waits for at most n turns.

All sequences of a batch are for one model, that of the first. A request whose deadline has passed is dropped.
"""

import threading
import time
from collections import Counter
from typing import NamedTuple

from sie_server.engine.backlog import Backlog, Sender
from sie_server.engine.batch_limit import BatchLimit
from sie_server.engine.fair_queue import BatchBuilder, Turns
from sie_server.engine.request import Batch, Request
from sie_server.options import Priority


class Waiting(NamedTuple):
    """What of one model waits for the device."""

    requests: int = 0
    sequences: int = 0
    tokens: int = 0


class Scheduler:
    """Requests that wait for one device, counted in tokens. Thread-safe.

    `budget`: most tokens in a batch; a longer sequence makes a batch alone. `workers`: how many threads take batches.
    """

    def __init__(self, budget: int, workers: int = 1) -> None:
        self.budget = budget
        self.workers = workers
        self._turns = Turns(budget, workers)
        self._condition = threading.Condition()
        self._idle = 0
        self._backlog = Backlog()
        self._batch_limits: dict[str, BatchLimit] = {}
        self._closed = False

    @property
    def tokens(self) -> int:
        """Tokens that wait, not counting those on the device."""
        return self._backlog.tokens

    def tokens_by_model(self) -> Counter[str]:
        """Those of each model that has some."""
        with self._condition:
            return self._backlog.by_model()

    def tokens_by_sender(self, model_id: str | None = None) -> Counter[Sender]:
        """Those of each sender that has some, for one model or for all."""
        with self._condition:
            return self._backlog.by_sender(model_id)

    def ahead(self, client: str, priority: Priority, tokens: int) -> int:
        """About how many tokens a request of so many has to see served, its own included."""
        with self._condition:
            return self._turns.ahead(client, priority, tokens)

    def waiting(self) -> dict[str, Waiting]:
        """What waits, by the id of its model."""
        waiting: dict[str, Waiting] = {}
        with self._condition:
            for request in self._turns:
                before = waiting.get(request.model.id, Waiting())
                tokens = before.tokens + request.waiting
                waiting[request.model.id] = Waiting(
                    before.requests + 1, before.sequences + len(request.pending), tokens
                )
        return waiting

    def add(self, request: Request) -> None:
        """Queue all of a request's sequences."""
        with self._condition:
            self._turns.add(request)
            self._backlog.count(request.model.id, request.params, request.tokens)
            self._condition.notify_all()

    def discard(self, request: Request) -> None:
        """Forget what is left of a request; a no-op when nothing is."""
        with self._condition:
            if request.pending:
                tokens = self._turns.remove(request)
                self._backlog.count(request.model.id, request.params, -tokens)

    def shrink(self, model_id: str, tokens: int) -> None:
        """So many tokens of a model in one batch did not fit into memory."""
        with self._condition:
            self._batch_limits.setdefault(model_id, BatchLimit(self.budget)).reduce(tokens)

    def batch_limit(self, model_id: str) -> int:
        """Most tokens in a batch of a model."""
        limit = self._batch_limits.get(model_id)
        return self.budget if limit is None else limit.tokens

    def next_batch(self) -> Batch | None:
        """Block until there is work, then take a batch. None: closed."""
        with self._condition:
            self._idle += 1
            batch: Batch | None = None
            while batch is None:
                while not (self._backlog.tokens or self._closed):
                    self._condition.wait()
                if not self._backlog.tokens:
                    break
                # Workers that wait as well get an even share of what there is; those that will be free soon find
                # something left, so that all finish at about the same time. Below a quarter of a budget a batch would
                # cost more than that.
                share = -(-self._backlog.tokens // self._idle)
                rest = max(-(-self._backlog.tokens // self.workers), self.budget // 4)
                batch = self._take(min(self.budget, share, rest))
            self._idle -= 1
            return batch

    def close(self) -> None:
        """Let waiting workers go once the queue is empty."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _take(self, room: int) -> Batch | None:
        """A batch of up to `room` tokens; None if nothing but requests whose time is over was waiting."""
        batch = BatchBuilder(room, room, self._batch_limits, time.perf_counter())
        while not batch.full and (turn := self._turns.take(batch)):
            if not (turn.taken or turn.dropped):
                break
            assert batch.model is not None
            self._backlog.count(batch.model.id, turn.params, -turn.taken - turn.dropped)
        return batch.build()
