"""Goodput, latency and wrong answers of a server under more and more load, up to three times what it can do.

    .venv/bin/python reliability/load.py                                   # 5 minutes
    .venv/bin/python reliability/load.py --seconds 2 --documents 20 --connections 1 8 --rates 0.9 3    # 20 seconds

Requests of 1, 5, 20 and 100 documents of 1 to 400 words, each as likely as the others. First every pair of the pool is
scored alone, in a request with one document, one at a time; later every score of every answer is compared with that,
bit for bit, and so are ids, ranks and the name of the request. Closed loops have 1 to 256 connections; each sends its
next request when it has an answer, and waits as long as a refusal says. Then requests arrive at random times (Poisson),
at a multiple of what the best closed loop gave: nobody waits, nobody comes again.

Goodput counts right answers within the phase; on a machine with other work read the share of the capacity by processor
time, which needs no quiet. In open loops latency counts from when a request was due. The queue is
small (`--queue-tokens`), so that it is full soon; server and generator share the machine, and the generator's processor
time is in the table because the server could have used it.
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

from instance import EMBEDDED, Instance, end_cleanly
from mixture import Mixture, mixture
from rich.console import Console
from tally import Tally, counted
from traffic import Outcome, closed, opened
from truth import Truth

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from process import usage

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
    """One load, `seconds` long, and what became of it.

    late: the latest that a request was sent after it was due. cpu_s: the server's processor time until the last answer.
    cores: processor seconds per second of the server and of the generator.
    """

    load: str
    seconds: float
    tally: Tally
    late: float
    cpu_s: float
    cores: tuple[float, float]

    @property
    def documents_per_second(self) -> float:
        return self.tally.documents / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return self.tally.tokens / self.seconds

    @property
    def tokens_per_core_second(self) -> float:
        """Of all right answers, also those that came after the phase, by the server's processor time."""
        return self.tally.all_tokens / self.cpu_s

    def figures(self, best: "Phase") -> dict[str, Any]:
        """For JSON; `best` is the phase that shows the capacity."""
        return {
            "load": self.load,
            "seconds": self.seconds,
            **self.tally.figures,
            "documents_per_second": self.documents_per_second,
            "tokens_per_second": self.tokens_per_second,
            "of_capacity": self.tokens_per_second / best.tokens_per_second,
            "tokens_per_core_second": self.tokens_per_core_second,
            "of_capacity_by_processor_time": self.tokens_per_core_second / best.tokens_per_core_second,
            "late_s": self.late,
            "cores": self.cores,
        }

    def row(self, best: "Phase") -> tuple[str, ...]:
        """For a table with COLUMNS."""
        tally = self.tally
        latency = tally.figures["latency_ms"]
        return (
            self.load,
            f"{tally.requests:,}",
            f"{tally.right:,}",
            str(len(tally.wrong)),
            counted(tally.lost),
            counted(tally.said),
            f"{self.documents_per_second:,.0f}",
            f"{self.tokens_per_second:,.0f}",
            f"{self.tokens_per_second / best.tokens_per_second:.0%}",
            f"{self.tokens_per_core_second / best.tokens_per_core_second:.0%}",
            " / ".join(f"{latency[p]:,.0f}" for p in ("p50", "p95", "p99")) if latency else "",
            f"{self.cores[0]:.2f}, {self.cores[1]:.2f}",
        )


class Loads:
    """Phases against one server, whose truth is known. Phases without a rest between them would share their queues."""

    def __init__(self, server: Instance, mixtures: Sequence[Mixture], truth: Truth) -> None:
        self._server = server
        self._mixtures = mixtures
        self._truth = truth
        self._phases = 0

    def closed(self, connections: int, seconds: float) -> Phase:
        """So many connections, each with one request under way."""
        until = time.monotonic() + seconds
        run = closed(self._server.url, self._mixtures, connections, lambda: time.monotonic() < until, self._seed())
        return self._phase(f"closed, {connections} connections", seconds, until, lambda: (asyncio.run(run), 0.0))

    def opened(self, rate: float, factor: float, seconds: float) -> Phase:
        """`rate` requests per second, which is `factor` times the capacity."""
        run = opened(self._server.url, self._mixtures, rate, seconds, self._seed())
        until = time.monotonic() + seconds
        load = f"open, {factor:g} × capacity ({rate:.1f} requests/s)"
        return self._phase(load, seconds, until, lambda: asyncio.run(run))

    def _seed(self) -> int:
        self._phases += 1
        return self._phases

    def _phase(self, load: str, seconds: float, until: float, run: Any) -> Phase:
        started, ours, theirs = time.monotonic(), time.process_time(), usage(self._server.pid).cpu_s
        outcomes: list[Outcome]
        outcomes, late = run()
        elapsed, cpu_s = time.monotonic() - started, usage(self._server.pid).cpu_s - theirs
        cores = cpu_s / elapsed, (time.process_time() - ours) / elapsed
        return Phase(load, seconds, Tally().count(outcomes, self._truth, until), late, cpu_s, cores)


def requests_per_second(phase: Phase) -> float:
    """That are answered rightly within the phase, by the documents of the mean request: refusals favour small ones."""
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
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    end_cleanly()

    mixtures = [mixture(arguments.model, documents=arguments.documents)]
    truth = Truth()
    console = Console(stderr=True)
    flags = ["--preload", arguments.model, "--queue-tokens", str(arguments.queue_tokens), *arguments.server]
    with Instance(*flags) as server:
        truth.learn(server.url, mixtures)
        console.print(f"{len(truth)} pairs are known")
        loads = Loads(server, mixtures, truth)
        phases = []
        for connections in arguments.connections:
            phases.append(loads.closed(connections, arguments.seconds))
            console.print(*phases[-1].row(phases[0]))
        best = max(phases, key=lambda phase: phase.tokens_per_second)
        for factor in arguments.rates:
            phases.append(loads.opened(requests_per_second(best) * factor, factor, arguments.seconds))
            console.print(*phases[-1].row(best))
    print("\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS))))
    print("\n".join(f"| {' | '.join(phase.row(best))} |" for phase in phases))
    if arguments.json:
        about = {"model": arguments.model, "queue_tokens": arguments.queue_tokens, "cores": os.cpu_count()}
        rows = [phase.figures(best) for phase in phases]
        arguments.json.write_text(json.dumps({**about, "capacity": best.load, "phases": rows}, indent=2))
    return int(any(phase.tally.wrong or phase.tally.lost or phase.tally.unsure for phase in phases))


if __name__ == "__main__":
    sys.exit(main())
