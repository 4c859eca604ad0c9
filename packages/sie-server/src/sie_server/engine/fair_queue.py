"""Fair queue: priority classes, lanes for short and long requests, clients, and the requests of each client."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import attrgetter
from typing import NamedTuple

from sie_server.engine.batch_limit import BatchLimit
from sie_server.engine.deadline import expired
from sie_server.engine.request import Batch, Request, Scheduled
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Priority

# Weights of the priority classes, highest class first.
WEIGHTS: dict[Priority, int] = {"interactive": 16, "normal": 4, "batch": 1}
# Number of clients, from the next one on, that are searched for more requests for a batch's model.
_CLIENTS_SEARCHED = 64
_SERVED = attrgetter("served")


@dataclass(slots=True)
class BatchBuilder:
    """Collects sequences for a batch; the first one determines its model.

    capacity: tokens that still fit. share: tokens that the batch should still get, at most `capacity`; the last
    sequence of a short request may exceed it. budget: limit on the tokens of a batch. undivided: tokens of a model that
    a worker takes at once where that is more than its part, by model id.
    """

    capacity: int
    share: int
    budget: int
    undivided: Mapping[str, int]
    batch_limits: Mapping[str, BatchLimit]
    now: float
    scheduled: list[Scheduled] = field(default_factory=list)
    model: LoadedModel | None = None
    least: int = 0  # tokens that are not divided, once the model is known

    @property
    def full(self) -> bool:
        return self.capacity <= 0 or self.share <= 0

    def begin(self, model: LoadedModel) -> None:
        """Make it a batch for `model`, within that model's limit."""
        self.model = model
        self.least = min(self.undivided.get(model.id, 0), self.budget)
        self.capacity, self.share = max(self.capacity, self.least), max(self.share, self.least)
        if (limit := self.batch_limits.get(model.id)) is not None:
            limit.count_batch()
            self.capacity = min(self.capacity, limit.tokens)
            self.share = min(self.share, self.capacity)

    def build(self) -> Batch | None:
        """The batch; None if nothing was collected."""
        return Batch(self.model, self.scheduled) if self.model is not None and self.scheduled else None


class Quantum(NamedTuple):
    """One client's turn: tokens taken into the batch, and tokens of requests dropped because their deadline passed."""

    params: SchedulingParams
    taken: int
    dropped: int


class WeightedNode(ABC):
    """Waiting requests, divided among children that share the device by weight.

    Children are served by stride scheduling (Waldspurger and Weihl 1995): the next one is that served the least for its
    weight. One that was empty continues level with the one that is being served, so that it has no claim to what it
    missed. served: tokens taken from this node so far, divided by its own `weight`.
    """

    def __init__(self, weight: int, children: Items["WeightedNode | SizeLane"]) -> None:
        self.weight = weight
        self.served = 0.0
        self._children = children
        self._now = 0.0

    def __bool__(self) -> bool:
        return any(self._children)

    def __iter__(self) -> Iterator[Request]:
        """Iterate over the waiting requests, in no particular order."""
        return chain.from_iterable(self._children)

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return sum(child.tokens for child in self._children)

    @abstractmethod
    def child(self, request: Request) -> "WeightedNode | SizeLane":
        """The child that a request belongs to."""

    def add(self, request: Request) -> None:
        child = self.child(request)
        if not child:
            child.served = max(child.served, self._now)
        child.add(request)

    def remove(self, request: Request) -> int:
        """Drop the rest of a request; returns its tokens."""
        return self.child(request).remove(request)

    def take(self, batch: BatchBuilder) -> Quantum | None:
        """Move the next sequences into the batch while they fit. None: nothing waits for the batch's model."""
        waiting = [child for child in self._children if child]
        if len(waiting) > 1:
            waiting.sort(key=_SERVED)
        for child in waiting:
            if quantum := child.take(batch):
                self._now = child.served
                child.served += quantum.taken / child.weight
                return quantum
        return None


class FairQueue(WeightedNode):
    """All requests that wait for a device, divided into priority classes."""

    def __init__(self, budget: int, workers: int) -> None:
        self._classes = {name: PriorityClass(weight, budget, workers) for name, weight in WEIGHTS.items()}
        super().__init__(1, list(self._classes.values()))

    def child(self, request: Request) -> "PriorityClass":
        return self._classes[request.params.priority]

    def ahead(self, client: str, name: Priority, tokens: int) -> int:
        """Estimate the tokens computed before a new request of `tokens` tokens completes, including its own.

        All tokens of higher classes count, none of lower ones. In the request's lane every client counts for as many
        quanta as this one needs. Of the other lane, all tokens are ahead of a long request, and ahead of a short one
        those that the weights of the lanes let through meanwhile.
        """
        higher = list(WEIGHTS)[: list(WEIGHTS).index(name)]
        total = sum(self._classes[priority].tokens for priority in higher)
        priority = self._classes[name]
        lane = priority.lane(tokens)
        own_tokens = tokens + sum(queue.tokens for queue in lane.clients if queue.client == client)
        limit = max(own_tokens, lane.quantum)
        in_lane = own_tokens + sum(min(queue.tokens, limit) for queue in lane.clients if queue.client != client)
        if lane is priority.long:
            return total + in_lane + priority.short.tokens
        return total + in_lane + min(in_lane // priority.short.weight, priority.long.tokens)


class PriorityClass(WeightedNode):
    """The requests of one priority, in one lane for short requests and one for long requests."""

    def __init__(self, weight: int, budget: int, workers: int) -> None:
        self.short = SizeLane(workers, budget * workers, rotate_requests=False)
        self.long = SizeLane(1, budget, rotate_requests=True)
        self._short_tokens = budget * workers
        super().__init__(weight, (self.short, self.long))

    def child(self, request: Request) -> "SizeLane":
        return self.lane(request.tokens)

    def lane(self, tokens: int) -> "SizeLane":
        """The lane for requests of `tokens` tokens."""
        return self.short if tokens <= self._short_tokens else self.long


class ClientQueue:
    """The requests of one client in one lane, by the `id()` of their model.

    tokens: all that wait. allowance: tokens that the client may still take in its current quantum; negative if its last
    sequence exceeded it.
    """

    __slots__ = ("allowance", "client", "queues", "tokens")

    def __init__(self, client: str) -> None:
        self.client = client
        self.queues: OrderedDict[int, OrderedDict[Request, None]] = OrderedDict()
        self.allowance = 0
        self.tokens = 0


class SizeLane:
    """Clients that take turns of `quantum` tokens by surplus round robin (Adiseshu, Parulkar and Varghese 1996).

    A client's turn lasts while its allowance is above zero. Its last sequence may exceed the allowance, and the excess
    is deducted from its next turn, so that sequences of any length are served. A client's requests are served in order,
    or, if `rotate_requests`, in turns of a quantum of their own. weight, served: as those of a `WeightedNode`.
    """

    def __init__(self, weight: int, quantum: int, *, rotate_requests: bool) -> None:
        self.weight = weight
        self.served = 0.0
        self.quantum = quantum
        self._rotate_requests = rotate_requests
        self._clients: OrderedDict[str, ClientQueue] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._clients)

    def __iter__(self) -> Iterator[Request]:
        for client in self.clients:
            yield from chain.from_iterable(client.queues.values())

    @property
    def clients(self) -> Iterable[ClientQueue]:
        return self._clients.values()

    @property
    def tokens(self) -> int:
        return sum(client.tokens for client in self.clients)

    def add(self, request: Request) -> None:
        client = self._clients.get(request.params.client)
        if client is None:
            client = self._clients[request.params.client] = ClientQueue(request.params.client)
        queue = client.queues.get(id(request.model))
        if queue is None:
            queue = client.queues[id(request.model)] = OrderedDict()
        queue[request] = None
        client.tokens += request.tokens

    def remove(self, request: Request) -> int:
        """Drop the rest of a request; returns its tokens."""
        client = self._clients[request.params.client]
        tokens = request.drop()
        del client.queues[id(request.model)][request]
        self._after_removal(client, id(request.model), tokens)
        return tokens

    def take(self, batch: BatchBuilder) -> Quantum | None:
        """Give the next client its turn. None: none of the next clients has requests for the batch's model."""
        client = self._next(batch)
        if client is None:
            return None
        if batch.model is None:
            batch.begin(next(iter(next(iter(client.queues.values())))).model)
            if not self._rotate_requests:
                batch.share = min(batch.share, max(self._share(), batch.least))
        model = id(batch.model)
        queue = client.queues[model]
        params = next(iter(queue)).params
        taken = dropped = 0
        while queue and taken < client.allowance and batch.share > 0:
            request = next(iter(queue))
            if expired(request.params.deadline, batch.now):
                dropped += request.drop()
                del queue[request]
                continue
            wanted, capacity = min(client.allowance - taken, batch.share), batch.capacity
            if self._rotate_requests:
                if request.allowance <= 0:
                    request.allowance += self.quantum
                    if request.allowance <= 0:
                        queue.move_to_end(request)
                        continue
                wanted, capacity = min(wanted, request.allowance), min(capacity, batch.share)
            tokens = request.take(batch.scheduled, wanted, capacity, batch.now)
            taken += tokens
            batch.capacity -= tokens
            batch.share -= tokens
            request.allowance -= tokens
            if request.pending:
                if self._rotate_requests and request.allowance <= 0:
                    queue.move_to_end(request)
                break
            del queue[request]
        client.allowance -= taken
        self._after_removal(client, model, taken + dropped)
        return Quantum(params, taken, dropped)

    def _share(self) -> int:
        """Tokens for a batch of short requests: an equal part of those that wait for each worker.

        At least half a budget. A batch that long requests fill up beyond that would delay the short ones.
        """
        waiting, half = self.tokens, max(self.quantum // (2 * self.weight), 1)
        parts = max(min(waiting // half, self.weight), 1)
        return max(-(-waiting // parts), half)

    def _next(self, batch: BatchBuilder) -> ClientQueue | None:
        """The next client with requests for the batch's model, and with some allowance."""
        model = id(batch.model)
        while True:
            searched = islice(self._clients.values(), _CLIENTS_SEARCHED)
            client = next((client for client in searched if batch.model is None or model in client.queues), None)
            if client is None or client.allowance > 0:
                return client
            client.allowance += self.quantum
            if client.allowance > 0:
                return client
            self._clients.move_to_end(client.client)

    def _after_removal(self, client: ClientQueue, model: int, tokens: int) -> None:
        """Account for `tokens` of a model that have left the client's queue."""
        client.tokens -= tokens
        if not client.queues[model]:
            del client.queues[model]
        if not client.queues:
            del self._clients[client.client]
        elif client.allowance <= 0:
            self._clients.move_to_end(client.client)
            if model in client.queues:
                client.queues.move_to_end(model)
