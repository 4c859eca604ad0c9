"""Load test: goodput, latency and wrong answers under increasing load, up to three times the capacity.

    .venv/bin/python reliability/load.py                                   # 5 minutes
    .venv/bin/python reliability/load.py --seconds 2 --documents 20 --connections 1 8 --rates 0.9 3    # 20 seconds

Requests have 1, 5, 20 or 100 documents (equally likely) of 1 to 400 words. First, every pair of the pool is scored in a
request of its own, one at a time. Later, every score is compared with that, bit for bit, and ids, ranks and request ids
are checked. Closed loops have 1 to 256 connections, each of which sends its next request after the answer, or after the
Retry-After of a refusal. In open loops, requests arrive at random times (Poisson) at a multiple of the best closed
loop's rate, without waiting or retrying.

Goodput counts right answers within the phase. On a machine with other work, read the share of the capacity by CPU time.
In open loops, latency is measured from when a request was due. The queue is small (`--queue-tokens`), so that it fills
up quickly. Server and load generator share the machine, so the table has the generator's CPU time too.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expected_scores import ExpectedScores
from outcome_counts import OutcomeCounts, format_counts
from rich.console import Console
from traffic import Outcome, closed_loop, open_loop
from workload import Workload, make_workload

from sie_testing.process import usage
from sie_testing.serving import EMBEDDED, Server, end_cleanly

CONNECTIONS, RATES = (1, 8, 64, 256), (0.5, 0.9, 1.5, 3.0)
QUEUE_TOKENS = 20_000
COLUMNS = (
    "load",
    "requests",
    "right",
    "wrong",
    "lost",
    "refused or failed",
    "documents/s",
    "tokens/s",
    "of capacity",
    "the same by processor time",
    "p50 / p95 / p99, ms",
    "cores: server, generator",
)


@dataclass
class Phase:
    """Results of one load.

    seconds: length of the phase.
    late: longest delay, in seconds, between when a request was due and when it was sent.
    cpu_s: CPU seconds of the server until the last answer.
    cores: CPU seconds per second of the server, and of the generator.
    """

    load: str
    seconds: float
    counts: OutcomeCounts
    late: float
    cpu_s: float
    cores: tuple[float, float]

    @property
    def documents_per_second(self) -> float:
        return self.counts.documents / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return self.counts.tokens / self.seconds

    @property
    def tokens_per_core_second(self) -> float:
        """Tokens of all right answers, including those after the phase, per CPU second of the server."""
        return self.counts.all_tokens / self.cpu_s

    def figures(self, best: "Phase") -> dict[str, Any]:
        """Results for JSON. best: the phase that defines the capacity."""
        return {
            "load": self.load,
            "seconds": self.seconds,
            **self.counts.figures,
            "documents_per_second": self.documents_per_second,
            "tokens_per_second": self.tokens_per_second,
            "of_capacity": self.tokens_per_second / best.tokens_per_second,
            "tokens_per_core_second": self.tokens_per_core_second,
            "of_capacity_by_processor_time": self.tokens_per_core_second / best.tokens_per_core_second,
            "late_s": self.late,
            "cores": self.cores,
        }

    def row(self, best: "Phase") -> tuple[str, ...]:
        """Row of a table with COLUMNS."""
        counts = self.counts
        latency = counts.figures["latency_ms"]
        return (
            self.load,
            f"{counts.requests:,}",
            f"{counts.right:,}",
            str(len(counts.wrong)),
            format_counts(counts.lost),
            format_counts(counts.errors),
            f"{self.documents_per_second:,.0f}",
            f"{self.tokens_per_second:,.0f}",
            f"{self.tokens_per_second / best.tokens_per_second:.0%}",
            f"{self.tokens_per_core_second / best.tokens_per_core_second:.0%}",
            " / ".join(f"{latency[p]:,.0f}" for p in ("p50", "p95", "p99")) if latency else "",
            f"{self.cores[0]:.2f}, {self.cores[1]:.2f}",
        )


class LoadTest:
    """Runs phases against one server. Each waits for all its answers, so that phases do not share a queue."""

    def __init__(self, server: Server, workloads: Sequence[Workload], expected: ExpectedScores) -> None:
        self._server = server
        self._workloads = workloads
        self._expected = expected
        self._phases = 0

    def closed(self, connections: int, seconds: float) -> Phase:
        """Run a closed loop with one request in flight per connection."""
        until = time.monotonic() + seconds
        run = closed_loop(
            self._server.url, self._workloads, connections, lambda: time.monotonic() < until, self._seed()
        )
        return self._phase(f"closed, {connections} connections", seconds, until, lambda: (asyncio.run(run), 0.0))

    def opened(self, rate: float, factor: float, seconds: float) -> Phase:
        """Run an open loop with `rate` requests per second, `factor` times the capacity."""
        run = open_loop(self._server.url, self._workloads, rate, seconds, self._seed())
        until = time.monotonic() + seconds
        load = f"open, {factor:g} × capacity ({rate:.1f} requests/s)"
        return self._phase(load, seconds, until, lambda: asyncio.run(run))

    def _seed(self) -> int:
        self._phases += 1
        return self._phases

    def _phase(self, load: str, seconds: float, until: float, run: Any) -> Phase:
        started, own_cpu_s, server_cpu_s = time.monotonic(), time.process_time(), usage(self._server.pid).cpu_s
        outcomes: list[Outcome]
        outcomes, late = run()
        elapsed, cpu_s = time.monotonic() - started, usage(self._server.pid).cpu_s - server_cpu_s
        cores = cpu_s / elapsed, (time.process_time() - own_cpu_s) / elapsed
        return Phase(load, seconds, OutcomeCounts().count(outcomes, self._expected, until), late, cpu_s, cores)


def requests_per_second(phase: Phase) -> float:
    """Goodput in requests of mean size: counted by documents, as refusals favour small requests."""
    sizes = sum((1, 5, 20, 100)) / 4
    return phase.documents_per_second / sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase")
    parser.add_argument("--connections", type=int, nargs="*", default=CONNECTIONS)
    parser.add_argument("--rates", type=float, nargs="*", default=RATES, help="of open loops, in capacities")
    parser.add_argument("--documents", type=int, default=100, help="in the pool")
    parser.add_argument("--queue-tokens", type=int, default=QUEUE_TOKENS)
    parser.add_argument("--server", nargs="*", default=[], help="further flags of the server, as --server=--workers=1")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    end_cleanly()

    workloads = [make_workload(arguments.model, documents=arguments.documents)]
    expected = ExpectedScores()
    console = Console(stderr=True)
    flags = ["--preload", arguments.model, "--queue-tokens", str(arguments.queue_tokens), *arguments.server]
    with Server(*flags) as server:
        expected.learn(server.url, workloads)
        console.print(f"{len(expected)} pairs scored alone")
        load_test = LoadTest(server, workloads, expected)
        phases = []
        for connections in arguments.connections:
            phases.append(load_test.closed(connections, arguments.seconds))
            console.print(*phases[-1].row(phases[0]))
        best = max(phases, key=lambda phase: phase.tokens_per_second)
        for factor in arguments.rates:
            phases.append(load_test.opened(requests_per_second(best) * factor, factor, arguments.seconds))
            console.print(*phases[-1].row(best))
    print("\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS))))
    print("\n".join(f"| {' | '.join(phase.row(best))} |" for phase in phases))
    if arguments.json:
        about = {"model": arguments.model, "queue_tokens": arguments.queue_tokens, "cores": os.cpu_count()}
        rows = [phase.figures(best) for phase in phases]
        arguments.json.write_text(json.dumps({**about, "capacity": best.load, "phases": rows}, indent=2))
    return int(any(phase.counts.wrong or phase.counts.lost or phase.counts.without_retry_after for phase in phases))


if __name__ == "__main__":
    sys.exit(main())
