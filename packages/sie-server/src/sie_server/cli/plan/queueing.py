"""Waiting times of requests before several replicas, by formulas of queueing theory.

A replica computes one request after another, at a fixed rate of tokens, so replicas are servers of a queue. Batching
inside a replica changes the order of the work and not its amount.

- least: a balancer that sends a request to the replica with the least waiting work keeps no replica idle while another
  one has a queue. The replicas are then about one queue with several servers, G/G/c. The share of requests that wait is
  Erlang's C formula; the mean wait of M/M/c is scaled by (variation of arrivals + variation of sizes) / 2 (Allen and
  Cunneen, "Probability, Statistics and Queueing Theory", 1990, section 5.2.3).
- random: each replica has a queue of its own with its part of the requests, G/G/1.

The time of those who wait is taken as exponential. `benchmarks/fleet_simulation.py` compares both with a simulation.
"""

import math
from dataclasses import dataclass
from typing import Literal

Balancer = Literal["least", "random"]
# The time of the formulas grows with the replicas, and nobody has more.
_MOST = 100_000


@dataclass(frozen=True)
class Load:
    """Requests that arrive.

    requests_per_s: their rate. seconds: one replica's time to compute one. arrivals, sizes: squared coefficients of
    variation of the time between two requests (1: independent clients; more: bursts) and of their size (0: all equal).
    """

    requests_per_s: float
    seconds: float
    arrivals: float = 1.0
    sizes: float = 0.25

    @property
    def replicas(self) -> float:
        """Replicas that would be busy all the time."""
        return self.requests_per_s * self.seconds


@dataclass(frozen=True)
class Wait:
    """Waiting of requests. waits: share of requests that wait at all. then_s: mean seconds of those."""

    waits: float
    then_s: float

    @property
    def mean_s(self) -> float:
        """Mean seconds of all requests."""
        return self.waits * self.then_s

    def percentile_s(self, share: float) -> float:
        """Seconds that this share of all requests does not exceed."""
        over = 1 - share
        return 0.0 if self.waits <= over else self.then_s * math.log(self.waits / over)


def erlang_c(servers: int, load: float) -> float:
    """Probability that a request waits before `servers` servers of which `load` would be busy all the time.

    Raises:
        ValueError: the load is not below the number of servers, so the queue would grow without end.
    """
    if not 0 <= load < servers:
        raise ValueError(f"a load of {load:g} needs more than {servers} servers")
    blocked = 1.0  # Erlang's B formula, by its recursion
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def wait(load: Load, replicas: int, balancer: Balancer) -> Wait:
    """The wait of a load before this number of replicas.

    Raises:
        ValueError: they are too few for it.
    """
    # A random part of a stream is closer to independent arrivals than the whole.
    arrivals = load.arrivals if balancer == "least" else 1 + (load.arrivals - 1) / replicas
    servers = replicas if balancer == "least" else 1
    busy = load.replicas / replicas
    waits = erlang_c(servers, busy * servers)
    return Wait(waits, load.seconds / (servers * (1 - busy)) * (arrivals + load.sizes) / 2)


def replicas_for(load: Load, wait_s: float, share: float, busy: float, balancer: Balancer) -> int:
    """The fewest replicas where this share of requests waits at most `wait_s`, and none is busier than `busy`.

    Raises:
        ValueError: they would be more than 100,000.
    """
    if load.replicas / busy > _MOST:
        raise ValueError(f"this load keeps {load.replicas:,.0f} replicas busy; plans end at {_MOST:,}")

    def enough(replicas: int) -> bool:
        return wait(load, replicas, balancer).percentile_s(share) <= wait_s

    fewest = max(1, math.ceil(load.replicas / busy))
    most = fewest
    while not enough(most):
        fewest, most = most + 1, most * 2
    while fewest < most:
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if enough(middle) else (middle + 1, most)
    return most
