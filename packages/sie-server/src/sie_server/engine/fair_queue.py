"""Whose turn it is: classes of priority, lanes for short and long requests, clients, and the requests of a client."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

from sie_server.engine.batch_limit import BatchLimit
from sie_server.engine.request import Batch, Request, Scheduled
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Priority

# Shares of the device of the classes that have work, highest first.
WEIGHTS: dict[Priority, int] = {"interactive": 16, "normal": 4, "batch": 1}
# How many clients in front are looked at for more work of the model that a batch is for.
_REACH = 64


class Flow:
    """What one client has in one lane: requests, by the `id()` of their model. `tokens`: of all that wait."""

    __slots__ = ("allowance", "client", "queues", "tokens")

    def __init__(self, client: str) -> None:
        self.client = client
        self.queues: OrderedDict[int, OrderedDict[Request, None]] = OrderedDict()
        self.allowance = 0
        self.tokens = 0


@dataclass(slots=True)
class BatchBuilder:
    """Sequences that are being gathered for the model of the first.

    room: tokens that still fit. share: those that it is still to have, which the last sequence of a short request may
    exceed.
    """

    room: int
    share: int
    batch_limits: Mapping[str, BatchLimit]
    now: float
    scheduled: list[Scheduled] = field(default_factory=list)
    model: LoadedModel | None = None

    @property
    def full(self) -> bool:
        return self.room <= 0 or self.share <= 0

    def begin(self, model: LoadedModel) -> None:
        """From now on it is one of this model's."""
        self.model = model
        if (limit := self.batch_limits.get(model.id)) is not None:
            limit.count_batch()
            self.room = min(self.room, limit.tokens)
            self.share = min(self.share, self.room)

    def build(self) -> Batch | None:
        """What was gathered; None: nothing."""
        return Batch(self.model, self.scheduled) if self.model is not None and self.scheduled else None


class Turn(NamedTuple):
    """What became of one turn: whose it was, tokens that were taken, and those of requests whose time was over."""

    params: SchedulingParams
    taken: int
    dropped: int


class Lane:
    """Clients in turns, each worth `turn` tokens; within a client's the requests one by one, or in turns themselves.

    Surplus round robin (Adiseshu, Parulkar and Varghese 1996): a turn goes on while its allowance is above zero. Its
    last sequence may go below, which comes off the next turn, so that a sequence of any length has its place.

    served: tokens so far, over the lane's `weight`.
    """

    def __init__(self, turn: int, weight: int, requests_in_turns: bool) -> None:
        self.served = 0.0
        self.turn = turn
        self.weight = weight
        self._requests_in_turns = requests_in_turns
        self._flows: OrderedDict[str, Flow] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._flows)

    @property
    def flows(self) -> Iterable[Flow]:
        return self._flows.values()

    @property
    def tokens(self) -> int:
        """Those that wait."""
        return sum(flow.tokens for flow in self.flows)

    def add(self, request: Request) -> None:
        client = request.params.client
        flow = self._flows.get(client)
        if flow is None:
            flow = self._flows[client] = Flow(client)
        queue = flow.queues.get(id(request.model))
        if queue is None:
            queue = flow.queues[id(request.model)] = OrderedDict()
        queue[request] = None
        flow.tokens += request.tokens

    def remove(self, request: Request) -> int:
        """Give up what is left of a request: so many tokens."""
        flow = self._flows[request.params.client]
        tokens = request.drop()
        del flow.queues[id(request.model)][request]
        self._settle(flow, id(request.model), tokens)
        return tokens

    def take(self, batch: BatchBuilder) -> Turn | None:
        """Move what has its turn to the batch; None: there is nothing of its model near."""
        flow = self._next(batch)
        if flow is None:
            return None
        if batch.model is None:
            batch.begin(next(iter(next(iter(flow.queues.values())))).model)
            if not self._requests_in_turns:
                batch.share = min(batch.share, self._share())
        model = id(batch.model)
        queue = flow.queues[model]
        params = next(iter(queue)).params
        taken = dropped = 0
        while queue and taken < flow.allowance and batch.share > 0:
            request = next(iter(queue))
            if request.params.expired(batch.now):
                dropped += request.drop()
                del queue[request]
                continue
            most, room = min(flow.allowance - taken, batch.share), batch.room
            if self._requests_in_turns:
                if request.allowance <= 0:
                    request.allowance += self.turn
                    if request.allowance <= 0:
                        queue.move_to_end(request)
                        continue
                most, room = min(most, request.allowance), min(room, batch.share)
            tokens = request.take(batch.scheduled, most, room, batch.now)
            taken += tokens
            batch.room -= tokens
            batch.share -= tokens
            request.allowance -= tokens
            if request.pending:
                if self._requests_in_turns and request.allowance <= 0:
                    queue.move_to_end(request)
                break
            del queue[request]
        self.served += taken / self.weight
        flow.allowance -= taken
        self._settle(flow, model, taken + dropped)
        return Turn(params, taken, dropped)

    def _share(self) -> int:
        """Tokens for a batch of short requests: as many of what waits as makes equal batches for the workers.

        No fewer than half a budget. A batch that long ones fill up to more would be waited for.
        """
        waiting, half = self.tokens, max(self.turn // (2 * self.weight), 1)
        parts = max(min(waiting // half, self.weight), 1)
        return max(-(-waiting // parts), half)

    def _next(self, batch: BatchBuilder) -> Flow | None:
        """The client whose turn it is, with some allowance."""
        model = id(batch.model)
        while True:
            near = islice(self._flows.values(), _REACH)
            flow = next((flow for flow in near if batch.model is None or model in flow.queues), None)
            if flow is None or flow.allowance > 0:
                return flow
            flow.allowance += self.turn
            if flow.allowance > 0:
                return flow
            self._flows.move_to_end(flow.client)

    def _settle(self, flow: Flow, model: int, tokens: int) -> None:
        """So many tokens of a model have left the flow."""
        flow.tokens -= tokens
        if not flow.queues[model]:
            del flow.queues[model]
        if not flow.queues:
            del self._flows[flow.client]
        elif flow.allowance <= 0:
            self._flows.move_to_end(flow.client)
            if model in flow.queues:
                flow.queues.move_to_end(model)


class Class:
    """The requests of one priority, short and long ones in a lane each.

    served: tokens so far, over the class's `weight`.
    """

    def __init__(self, weight: int, budget: int, workers: int) -> None:
        self.served = 0.0
        self._weight = weight
        self._short_tokens = budget * workers
        self.short = Lane(budget * workers, workers, requests_in_turns=False)
        self.long = Lane(budget, 1, requests_in_turns=True)
        self._now = 0.0

    def __bool__(self) -> bool:
        return bool(self.short or self.long)

    def lane(self, tokens: int) -> Lane:
        """The one for requests of so many tokens."""
        return self.short if tokens <= self._short_tokens else self.long

    def add(self, request: Request) -> None:
        lane = self.lane(request.tokens)
        if not lane:
            lane.served = max(lane.served, self._now)
        lane.add(request)

    def take(self, batch: BatchBuilder) -> Turn | None:
        for lane in (self.short, self.long) if self.short.served <= self.long.served else (self.long, self.short):
            served = lane.served
            if lane and (turn := lane.take(batch)):
                self._now = served
                self.served += turn.taken / self._weight
                return turn
        return None


class Turns:
    """All requests that wait, in the order in which their sequences are to be taken.

    Classes and lanes share by weight as in stride scheduling (Waldspurger and Weihl 1995): next is who has been served
    the least for its weight, and whoever comes back after a while starts level with the one that is served now.
    """

    def __init__(self, budget: int, workers: int) -> None:
        self._classes = {name: Class(weight, budget, workers) for name, weight in WEIGHTS.items()}
        self._now = 0.0

    def __iter__(self) -> Iterator[Request]:
        """All of them, in no order."""
        for priority in self._classes.values():
            for flow in chain(priority.short.flows, priority.long.flows):
                yield from chain.from_iterable(flow.queues.values())

    def add(self, request: Request) -> None:
        priority = self._classes[request.params.priority]
        if not priority:
            priority.served = max(priority.served, self._now)
        priority.add(request)

    def remove(self, request: Request) -> int:
        """Give up what is left of a request: so many tokens."""
        return self._classes[request.params.priority].lane(request.tokens).remove(request)

    def take(self, batch: BatchBuilder) -> Turn | None:
        """Move what has its turn to the batch, as far as there is room. None: there is nothing for it."""
        for priority in sorted(self._classes.values(), key=_served):
            served = priority.served
            if priority and (turn := priority.take(batch)):
                self._now = served
                return turn
        return None

    def ahead(self, client: str, name: Priority, tokens: int) -> int:
        """About how many tokens will be served until a request of so many is through, its own included.

        All of a higher class, none of a lower. In its lane those of each client, as far as that has no more turns than
        this one. Of the other lane: in front of a long request all short ones, of long ones the share they have.
        """
        higher = list(WEIGHTS)[: list(WEIGHTS).index(name)]
        total = sum(self._classes[each].short.tokens + self._classes[each].long.tokens for each in higher)
        priority = self._classes[name]
        lane = priority.lane(tokens)
        own = tokens + sum(flow.tokens for flow in lane.flows if flow.client == client)
        most = max(own, lane.turn)
        in_lane = own + sum(min(flow.tokens, most) for flow in lane.flows if flow.client != client)
        if lane is priority.long:
            return total + in_lane + priority.short.tokens
        return total + in_lane + min(in_lane // priority.short.weight, priority.long.tokens)


def _served(priority: Class) -> float:
    return priority.served
