"""The queue of one device: forms batches from waiting requests, without a timer.

Batches form because requests arrive while the device is busy; an idle device starts at once. The next sequences for a
batch are chosen (`fair_queue.py`) by, in this order:

1. Priority. While "interactive", "normal" and "batch" requests all wait, they share the device 16 : 4 : 1. A class that
   was idle is served at once. None starves: with all three waiting, "batch" gets every 21st token.
2. Length. A short request, of at most one budget per worker, waits only for the next free worker, however many long
   requests there are, like a sparse flow in FQ-CoDel (RFC 8290). While both kinds wait, short and long requests share
   the device `workers` : 1. A batch for short requests gets one worker's part of those that wait, or half a budget if
   that is more.
3. Client. Clients take turns, of one budget each for long requests, so that a client with a hundred requests gets no
   more of the device than a client with one.
4. Request. A client's short requests are served in order, its long ones in turns of one budget: a long request that
   joins n others waits for at most n turns.

All sequences of a batch are for one model, that of the first sequence. Requests whose deadline has passed are dropped.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from sie_server.engine.backlog import Backlog, Sender
from sie_server.engine.batch_limit import BatchLimit
from sie_server.engine.fair_queue import BatchBuilder, FairQueue
from sie_server.engine.request import Batch, Request
from sie_server.options import Priority

# Seconds of computing that one worker does by itself. Another worker's fixed cost for a batch, and waking it, take a
# good part of a millisecond on any processor, so that less work takes longer when it is divided.
_UNDIVIDED_S = 0.002
# Seconds of computing that the event loop does by itself. To wake a worker and be woken by it, and to share Python's
# lock with it meanwhile, takes about as long; and any thread may keep that lock as long (`server.py`).
_BRIEF_S = 0.001
# Weight of the past in a rate when a batch is added, and the shortest time of a batch that is believed.
_DECAY = 0.9
_SHORTEST_S = 1e-6


class Waiting(NamedTuple):
    """Work of one model that waits for the device."""

    requests: int = 0
    sequences: int = 0
    tokens: int = 0


class Scheduler:
    """Requests that wait for one device, counted in tokens. Thread-safe.

    budget: maximum number of tokens in a batch; a longer sequence is a batch of its own. workers: number of threads
    that take batches.
    """

    def __init__(self, budget: int, workers: int = 1) -> None:
        self.budget = budget
        self.workers = workers
        self._queue = FairQueue(budget, workers)
        self._condition = threading.Condition()
        self._idle = 0
        self._backlog = Backlog()
        self._batch_limits: dict[str, BatchLimit] = {}
        # Tokens per second of a worker's thread, tokens that are not divided, and tokens that are brief work.
        self._rates: dict[str, float] = {}
        self._undivided: dict[str, int] = {}
        self._brief: dict[str, int] = {}
        self._closed = False

    @property
    def tokens(self) -> int:
        """Tokens that wait, not counting those on the device."""
        return self._backlog.tokens

    def tokens_by_model(self) -> Counter[str]:
        """Waiting tokens by model; only models that have some."""
        with self._condition:
            return self._backlog.by_model()

    def tokens_by_sender(self, model_id: str | None = None) -> Counter[Sender]:
        """Waiting tokens by sender, for one model or for all; only senders that have some."""
        with self._condition:
            return self._backlog.by_sender(model_id)

    def ahead(self, client: str, priority: Priority, tokens: int) -> int:
        """Estimate the tokens computed before a request of `tokens` tokens completes, including its own."""
        with self._condition:
            return self._queue.ahead(client, priority, tokens)

    def waiting(self) -> dict[str, Waiting]:
        """Waiting work by model id."""
        waiting: dict[str, Waiting] = {}
        with self._condition:
            for request in self._queue:
                before = waiting.get(request.model.id, Waiting())
                tokens = before.tokens + request.waiting
                waiting[request.model.id] = Waiting(
                    before.requests + 1, before.sequences + len(request.pending), tokens
                )
        return waiting

    def add(self, request: Request, *, computes: bool = False) -> bool:
        """Queue all of a request's sequences.

        computes: the calling thread takes a brief request by `brief_batch` soon. Returns whether it is brief.
        """
        with self._condition:
            self._queue.add(request)
            self._backlog.count(request.model.id, request.params, request.tokens)
            if computes and request.tokens <= self._brief.get(request.model.id, 0):
                return True
            self._condition.notify()  # a worker that leaves something wakes the next
            return False

    def discard(self, request: Request) -> None:
        """Drop the rest of a request; does nothing if no sequence waits."""
        with self._condition:
            if request.pending:
                tokens = self._queue.remove(request)
                self._backlog.count(request.model.id, request.params, -tokens)

    def shrink(self, model_id: str, tokens: int) -> None:
        """Lower a model's batch limit: `tokens` tokens in one batch did not fit into memory."""
        with self._condition:
            self._batch_limits.setdefault(model_id, BatchLimit(self.budget)).reduce(tokens)

    def batch_limit(self, model_id: str) -> int:
        """Maximum number of tokens in a batch of a model."""
        limit = self._batch_limits.get(model_id)
        return self.budget if limit is None else limit.tokens

    def observe(self, model_id: str, tokens: int, seconds: float) -> None:
        """Count a batch of `tokens` tokens for which a worker's thread was on a processor for `seconds` seconds.

        This decides what is too little to be divided among workers. The time by the clock would not do: it depends on
        whatever else runs on the machine.
        """
        with self._condition:
            rate = tokens / max(seconds, _SHORTEST_S)
            self._rates[model_id] = rate = _DECAY * self._rates.get(model_id, rate) + (1 - _DECAY) * rate
            self._undivided[model_id] = int(_UNDIVIDED_S * rate)
            self._brief[model_id] = int(_BRIEF_S * rate)

    def brief_batch(self) -> Batch | None:
        """A batch for the calling thread, which is no worker; None: nothing waits, or it is left to the workers."""
        with self._condition:
            model_id = self._backlog.only_model
            brief = 0 if model_id is None else min(self._brief.get(model_id, 0), self.budget)
            while brief and self._backlog.tokens:
                if batch := self._take(brief, {}):
                    return batch
            self._condition.notify()
            return None

    def wake(self) -> None:
        """Wake a worker for what still waits, if there is anything."""
        with self._condition:
            if self._backlog.tokens:
                self._condition.notify()

    def next_batch(self) -> Batch | None:
        """Block until there is work, then return a batch. None: the scheduler is closed and the queue is empty."""
        with self._condition:
            self._idle += 1
            batch: Batch | None = None
            while batch is None:
                while not (self._backlog.tokens or self._closed):
                    self._condition.wait()
                if not self._backlog.tokens:
                    break
                # An equal part for every worker, so that those that will be free soon find work too and all finish at
                # about the same time. At least a quarter of the budget, since smaller batches cost more than that
                # gains, unless the workers that are idle now would get less.
                part = max(-(-self._backlog.tokens // self.workers), self.budget // 4)
                idle_part = -(-self._backlog.tokens // self._idle)
                batch = self._take(min(self.budget, part, idle_part), self._undivided)
            self._idle -= 1
            if self._idle and self._backlog.tokens:
                self._condition.notify()
            return batch

    def close(self) -> None:
        """Make `next_batch` return None once the queue is empty."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _take(self, capacity: int, undivided: Mapping[str, int]) -> Batch | None:
        """Take a batch of up to `capacity` tokens, or of as many as are not divided.

        None: only requests whose deadline has passed were waiting.
        """
        batch = BatchBuilder(capacity, capacity, self.budget, undivided, self._batch_limits, time.perf_counter())
        while self._backlog.tokens and not batch.full and (quantum := self._queue.take(batch)):
            if not (quantum.taken or quantum.dropped):
                break
            assert batch.model is not None
            self._backlog.count(batch.model.id, quantum.params, -quantum.taken - quantum.dropped)
        return batch.build()
