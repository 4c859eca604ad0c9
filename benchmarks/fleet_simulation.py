"""Waiting before a fleet of replicas: simulated, and computed by `sie-server plan`.

    python benchmarks/fleet_simulation.py                                  # 1, 10 and 100 replicas: about two minutes
    python benchmarks/fleet_simulation.py --replicas 1 10 --seconds 120
    python benchmarks/fleet_simulation.py --json fleet.json --svg fleet.svg

In simulated time. Each replica has the server's own scheduler (`engine/scheduler.py`), and computes the batches that it
forms at a fixed rate of tokens. Clients are many; requests arrive at random (Poisson) or in bursts (times between them
of a hyperexponential distribution with the squared coefficient of variation `--burstiness`), and ask for one of
`--models` models, the n-th in proportion to 1/n.

waiting: the time from the arrival of a request to its completion, less the time that a replica takes for it alone. For
each number of replicas and each share of busy time: mean and 95th percentile, by the plan and by the simulation, for a
balancer that knows the queues (least) and one that does not (random).

loss: at a third of the time one replica of several goes away; what it had is sent again to others.

models: more models than a replica can hold, routed to any replica (least) or by rendezvous hashing of the model to two
owners (owners): loads, evictions and waiting.
"""

import argparse
import heapq
import itertools
import json
import math
import random
import statistics
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sie_server.cli.bench.figures import Summary
from sie_server.cli.plan.queueing import Load, wait
from sie_server.engine.request import Batch, Request
from sie_server.engine.scheduler import Scheduler
from sie_server.engine.scheduling_params import SchedulingParams
from sie_testing import chart

BUDGET = 8192
CLIENTS = 1000
# Squared coefficient of variation of the tokens of a request, by a log-normal distribution.
SIZES = 0.25
BUSY = (0.3, 0.5, 0.7, 0.8, 0.9)
LOAD_S = 5.0
OWNERS = 2
# Seconds of queued work of the better owner above which a request goes to any replica.
SPILL_S = 2.0

Routing = Literal["least", "random", "owners"]
_HEAD = SimpleNamespace(lead=None)
BALANCERS: tuple[Literal["least", "random"], ...] = ("least", "random")
ROUTINGS: tuple[Routing, ...] = ("least", "owners")


@dataclass(frozen=True)
class Scenario:
    """A run. tokens_per_s: of a replica. documents, tokens: of a request, on average. holds: models in one replica.

    lost: replicas that go away at a third of the time.
    """

    replicas: int
    requests_per_s: float
    seconds: float
    routing: Routing
    burstiness: float = 1.0
    tokens_per_s: float = 30_000.0
    documents: int = 20
    tokens: int = 140
    models: int = 1
    holds: int = 1
    lost: int = 0


@dataclass
class Outcome:
    """Waits in seconds of the requests that arrived after a quarter of the time; everything else of all of it."""

    waits: list[float] = field(default_factory=list)
    requests: int = 0
    sent_again: int = 0
    loads: int = 0
    evictions: int = 0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.waits)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True)
class Text:
    """A sequence, as far as the scheduler looks at it: its length."""

    ids: range
    prefix: None = None


@dataclass(eq=False)
class Asked:
    """A request of a client. missing: number of its sequences that are not computed yet."""

    arrived: float
    client: str
    model: str
    lengths: list[int]
    missing: int = 0

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


class Replica:
    """A scheduler, and a device that takes its batches at a fixed rate."""

    def __init__(self, number: int, scenario: Scenario, outcome: Outcome) -> None:
        self.name = f"replica-{number}"
        self.scheduler = Scheduler(BUDGET)
        self.asked: dict[Request, Asked] = {}
        self.computing: Batch | None = None
        self.here: OrderedDict[str, None] = OrderedDict()
        self.loading: OrderedDict[str, list[Asked]] = OrderedDict()
        self.up = True
        self._scenario = scenario
        self._outcome = outcome

    @property
    def queue_s(self) -> float:
        """Seconds of queued and running work, of models in memory."""
        running = 0 if self.computing is None else self.computing.tokens
        return (self.scheduler.tokens + running) / self._scenario.tokens_per_s

    @property
    def work_s(self) -> float:
        """The same with the loads that wait, and the requests for their models."""
        waiting = sum(asked.tokens for ones in self.loading.values() for asked in ones)
        return self.queue_s + waiting / self._scenario.tokens_per_s + LOAD_S * len(self.loading)

    def add(self, asked: Asked) -> bool:
        """Take a request; returns whether a load of its model has to start."""
        if asked.model in self.here:
            self.here.move_to_end(asked.model)
            self._queue(asked)
            return False
        starts = not self.loading
        self.loading.setdefault(asked.model, []).append(asked)
        return starts

    def loaded(self) -> bool:
        """The first load has ended; returns whether there is another one."""
        model, waiting = self.loading.popitem(last=False)
        self._outcome.loads += 1
        if len(self.here) == self._scenario.holds:
            self.here.popitem(last=False)
            self._outcome.evictions += 1
        self.here[model] = None
        for asked in waiting:
            self._queue(asked)
        return bool(self.loading)

    def start(self) -> float | None:
        """Start a batch if there is work and the device is idle; returns the seconds that it takes."""
        if self.computing is not None or not self.scheduler.tokens:
            return None
        self.computing = self.scheduler.next_batch()
        assert self.computing is not None
        return self.computing.tokens / self._scenario.tokens_per_s

    def finish(self) -> Iterator[Asked]:
        """End the batch; yields the requests that are complete."""
        assert self.computing is not None
        for request, sequences in self.computing.by_request():
            asked = self.asked[request]
            asked.missing -= len(sequences)
            if not asked.missing:
                del self.asked[request]
                yield asked
        self.computing = None

    def go(self) -> list[Asked]:
        """Go away; returns the requests that were not answered."""
        self.up = False
        lost = [*self.asked.values(), *(asked for ones in self.loading.values() for asked in ones)]
        self.asked.clear()
        self.loading.clear()
        return lost

    def _queue(self, asked: Asked) -> None:
        asked.missing = len(asked.lengths)
        texts: Any = [Text(range(length)) for length in asked.lengths]
        model, head, future = (cast(Any, one) for one in (SimpleNamespace(id=asked.model), _HEAD, None))
        request = Request(model, head, texts, future, SchedulingParams(asked.client))
        self.asked[request] = asked
        self.scheduler.add(request)


def simulate(scenario: Scenario, seed: int = 1) -> Outcome:
    """Run a scenario."""
    rng, outcome, order = random.Random(seed), Outcome(), itertools.count()
    replicas = [Replica(number, scenario, outcome) for number in range(scenario.replicas)]
    events: list[tuple[float, int, Callable[[], None]]] = []
    now = 0.0

    def at(when: float, what: Callable[[], None]) -> None:
        heapq.heappush(events, (when, next(order), what))

    def send(asked: Asked) -> None:
        replica = route(asked, [one for one in replicas if one.up], scenario.routing, rng)
        if replica.add(asked):
            at(now + LOAD_S, lambda: load_ended(replica))
        begin(replica)

    def begin(replica: Replica) -> None:
        if (seconds := replica.start()) is not None:
            at(now + seconds, lambda: batch_ended(replica))

    def batch_ended(replica: Replica) -> None:
        if not replica.up:
            return
        for asked in replica.finish():
            if asked.arrived > scenario.seconds / 4:
                outcome.waits.append(now - asked.arrived - asked.tokens / scenario.tokens_per_s)
        begin(replica)

    def load_ended(replica: Replica) -> None:
        if not replica.up:
            return
        if replica.loaded():
            at(now + LOAD_S, lambda: load_ended(replica))
        begin(replica)

    def lose() -> None:
        for replica in replicas[: scenario.lost]:
            for asked in replica.go():
                outcome.sent_again += 1
                send(asked)

    def arrive() -> None:
        outcome.requests += 1
        send(request(now, scenario, rng))
        at(now + gap(scenario, rng), arrive)

    if scenario.models == 1:  # of several, none is there at first
        for replica in replicas:
            replica.here["model-0"] = None
    at(gap(scenario, rng), arrive)
    if scenario.lost:
        at(scenario.seconds / 3, lose)
    while events[0][0] < scenario.seconds:
        now, _, what = heapq.heappop(events)
        what()
    return outcome


def request(now: float, scenario: Scenario, rng: random.Random) -> Asked:
    """A request; its tokens are log-normal around the mean of the scenario."""
    variance = math.log1p(SIZES)
    size = scenario.tokens * rng.lognormvariate(-variance / 2, math.sqrt(variance))
    models = range(scenario.models)
    [model] = rng.choices(models, [1 / (number + 1) for number in models])
    return Asked(now, f"client-{rng.randrange(CLIENTS)}", f"model-{model}", [max(1, round(size))] * scenario.documents)


def gap(scenario: Scenario, rng: random.Random) -> float:
    """Seconds until the next request: exponential, or hyperexponential with balanced means."""
    rate, variation = scenario.requests_per_s, scenario.burstiness
    often = 0.5 * (1 + ((variation - 1) / (variation + 1)) ** 0.5)
    share = often if rng.random() < often else 1 - often
    return rng.expovariate(2 * share * rate)


def route(asked: Asked, up: list[Replica], routing: Routing, rng: random.Random) -> Replica:
    """The replica that gets a request."""
    if routing == "random":
        return rng.choice(up)
    if routing == "owners":
        owners = heapq.nlargest(OWNERS, up, key=lambda one: _weight(asked.model, one.name))
        least = min(owners, key=lambda one: one.work_s)
        # Loads do not count here: a third replica would have to load the model too, and another one because of that.
        if least.queue_s <= SPILL_S:
            return least
    return min(up, key=lambda one: (one.work_s, rng.random()))


def _weight(model: str, replica: str) -> bytes:
    return blake2b(f"{model} {replica}".encode(), digest_size=8).digest()


@dataclass(frozen=True)
class Row:
    """Waiting in seconds, by the plan and in the simulation."""

    replicas: int
    routing: str
    busy: float
    planned_mean_s: float
    simulated_mean_s: float
    planned_p95_s: float
    simulated_p95_s: float


def waiting(replicas: int, routing: Literal["least", "random"], busy: float, arguments: argparse.Namespace) -> Row:
    """One point of the comparison."""
    scenario = Scenario(
        replicas=replicas,
        requests_per_s=0,
        seconds=arguments.seconds,
        routing=routing,
        burstiness=arguments.burstiness,
        tokens_per_s=arguments.tokens_per_second,
    )
    seconds = scenario.documents * scenario.tokens / scenario.tokens_per_s
    rate = busy * replicas / seconds
    load = Load(rate, seconds, arguments.burstiness, SIZES)
    # A single replica gets few requests; as many as ten would give the percentiles less noise.
    length = arguments.seconds * max(1.0, 10 / replicas)
    outcome = simulate(replace(scenario, requests_per_s=rate, seconds=length))
    planned = wait(load, replicas, routing)
    return Row(
        replicas,
        routing,
        busy,
        planned.mean_s,
        statistics.fmean(outcome.waits),
        planned.percentile_s(0.95),
        outcome.percentile(0.95),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--seconds", type=float, default=120.0, help="simulated; ten times that for one replica")
    parser.add_argument("--tokens-per-second", type=float, default=30_000.0, help="of a replica")
    parser.add_argument("--burstiness", type=float, default=1.0)
    parser.add_argument("--models", type=int, default=24, help="of the comparison of routings")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--svg", type=Path, help="draw them here")
    arguments = parser.parse_args()
    if arguments.burstiness < 1:
        parser.error("--burstiness must be at least 1")

    points = [(n, routing, busy) for n in arguments.replicas for routing in BALANCERS for busy in BUSY]
    with Progress(console=Console(stderr=True)) as progress:
        rows = [waiting(*point, arguments) for point in progress.track(points, description="waiting")]
        several = Scenario(10, 0.7 * 10 / (20 * 140 / 30_000), arguments.seconds, "least", arguments.burstiness)
        runs = {
            "all ten replicas": several,
            "one of ten lost": replace(several, lost=1),
            **{
                # Half of the load, and five times as long: at first everything has to be loaded.
                f"{arguments.models} models, {routing}": replace(
                    several,
                    routing=routing,
                    models=arguments.models,
                    holds=8,
                    requests_per_s=several.requests_per_s / 2,
                    seconds=several.seconds * 5,
                )
                for routing in ROUTINGS
            },
        }
        outcomes = {
            name: simulate(scenario) for name, scenario in progress.track(runs.items(), description="loss and models")
        }
    show(rows, outcomes)
    if arguments.json:
        figures = {"waiting": [asdict(row) for row in rows], "runs": {n: summary(o) for n, o in outcomes.items()}}
        arguments.json.write_text(json.dumps(figures, indent=2))
    if arguments.svg:
        draw(rows, arguments.svg)


def summary(outcome: Outcome) -> dict[str, float]:
    """Figures of a run."""
    return {
        "requests": outcome.requests,
        "sent_again": outcome.sent_again,
        "loads": outcome.loads,
        "evictions": outcome.evictions,
        "mean_s": statistics.fmean(outcome.waits),
        "p95_s": outcome.percentile(0.95),
    }


def show(rows: list[Row], outcomes: dict[str, Outcome]) -> None:
    console = Console()
    table = Table("replicas", "balancer", "busy", "mean, plan", "mean, simulated", "p95, plan", "p95, simulated")
    for row in rows:
        times = (row.planned_mean_s, row.simulated_mean_s, row.planned_p95_s, row.simulated_p95_s)
        table.add_row(
            str(row.replicas), row.routing, f"{row.busy:.0%}", *(f"{seconds * 1000:,.1f} ms" for seconds in times)
        )
    console.print(table)
    table = Table("run", "requests", "sent again", "loads", "evictions", "mean wait", "p95")
    for name, outcome in outcomes.items():
        figures = summary(outcome)
        counts = (f"{figures[key]:,}" for key in ("requests", "sent_again", "loads", "evictions"))
        table.add_row(name, *counts, *(f"{figures[key] * 1000:,.0f} ms" for key in ("mean_s", "p95_s")))
    console.print(table)


def draw(rows: list[Row], file: Path) -> None:
    """The 95th percentile of the waits with the balancer that knows the queues, planned and simulated.

    Left out: a number of replicas before which next to no request waits.
    """
    series: dict[str, list[tuple[float, Summary]]] = {}
    for row in rows:
        longest = max(one.planned_p95_s for one in rows if one.replicas == row.replicas and one.routing == "least")
        if row.routing == "least" and longest > 0.05:
            for name, seconds in (("plan", row.planned_p95_s), ("simulated", row.simulated_p95_s)):
                point = (row.busy * 100, Summary.of([seconds * 1000]))
                series.setdefault(f"{row.replicas} × {name}", []).append(point)
    chart.lines(file, "Wait before replicas, by their number", ("busy, %", "p95 of the wait, ms"), series)


if __name__ == "__main__":
    main()
