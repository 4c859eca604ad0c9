"""Soak test: mixed traffic for a long time, with checks that memory stays flat and nothing leaks.

    .venv/bin/python reliability/soak.py --json soak.json --svg soak.svg      # 30 minutes
    .venv/bin/python reliability/soak.py --minutes 0.3 --documents 8          # half a minute

Clients score 1 to 500 documents, embed, watch the status, send malformed requests and disconnect. The models change
every few seconds, so that a server with a `--memory-budget` (`--server=--memory-budget=...`) keeps loading and
unloading models. Scores are compared with those of each pair alone, bit for bit.

After a warm-up of a third of the time, memory is sampled every second. It is flat if the medians of ten parts lie
within 2 % of their midpoint; in less than five minutes it is only recorded, since allocators fill up first. Threads,
open files, sockets and asyncio tasks are counted before and after, without clients, and must not grow. Threads are
counted by name; a thread pool may grow up to its size.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from expected_scores import ExpectedScores
from mixed_traffic import MixedTraffic
from outcome_counts import format_counts
from process_stats import ProcessStats, process_stats
from rich.console import Console
from workload import Workload, checkpoint_words, make_workload

from sie_server.cli.bench.figures import Summary
from sie_testing import chart
from sie_testing.checkpoints import build
from sie_testing.serving import EMBEDDED, Server, end_cleanly

CHECKPOINTS = ("bert", "modernbert", "qwen3", "deberta", "bert-encoder")
FLAT, SHORTEST_MINUTES, PARTS = 0.02, 5.0, 10
TURN_S = 5.0
# Documents of the largest requests.
LARGE = 500
# Connections take a moment to close.
_SETTLED_S = 20.0


class Held(NamedTuple):
    """Resources held by a server. threads: counts by name. pools: sizes of thread pools by thread name."""

    files: int
    sockets: int
    tasks: int
    threads: dict[str, int]
    pools: dict[str, int]


class Readings:
    """Samples the statistics of a process once per second, as a context manager."""

    def __init__(self, pid: int) -> None:
        self.all: list[ProcessStats] = []
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Readings":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            self.all.append(process_stats(self._pid))


def spread(readings: Sequence[ProcessStats]) -> float:
    """Largest deviation of the medians of ten parts from their midpoint, relative to it."""
    size = max(len(readings) // PARTS, 1)
    parts = [readings[at : at + size] for at in range(0, size * PARTS, size)]
    medians = [statistics.median(one.resident for one in part) for part in parts if part]
    return (max(medians) - min(medians)) / (max(medians) + min(medians))


def leaks(before: Held, after: Held) -> dict[str, tuple[int, int]]:
    """Resources that have grown, with their counts; growth of a thread pool within its size is not a leak."""
    found = {name: (getattr(before, name), getattr(after, name)) for name in ("files", "sockets", "tasks")}
    found = {name: counts for name, counts in found.items() if counts[1] > counts[0]}
    for name, count in after.threads.items():
        had = before.threads.get(name, 0)
        if count > max(had, after.pools.get(name, 0)):
            found[f"threads: {name}"] = had, count
    return found


def held(server: Server) -> Held:
    """Ask an instrumented server. Its count includes the task of this request, but not the connection."""
    now = process_stats(server.pid)
    with urllib.request.urlopen(f"{server.url}/inside", timeout=60) as answer:
        inside = json.load(answer)
    return Held(now.files, now.sockets, **inside)


def quiet(server: Server) -> Held:
    """Wait until resources are stable for a second, or for 20 s."""
    until = time.monotonic() + _SETTLED_S
    last, now = None, held(server)
    while now != last and time.monotonic() < until:
        time.sleep(1.0)
        last, now = now, held(server)
    return now


def left(server: Server, before: Held) -> tuple[Held, dict[str, tuple[int, int]]]:
    """Wait until nothing has leaked, or for 20 s; returns the resources and the leaks."""
    until = time.monotonic() + _SETTLED_S
    while (found := leaks(before, now := held(server))) and time.monotonic() < until:
        time.sleep(0.2)
    return now, found


def soak(
    server: Server, workloads: Sequence[Workload], encoders: dict[str, list[str]], minutes: float, large: int = LARGE
) -> dict[str, Any]:
    """Score pairs alone, warm up for a third of the time, and soak for the rest; returns the results."""
    expected = ExpectedScores()
    expected.learn(server.url, workloads)
    mixed_traffic = MixedTraffic(server.url, workloads, expected, encoders, TURN_S, large)
    asyncio.run(mixed_traffic.learn())
    with Readings(server.pid) as readings:
        asyncio.run(mixed_traffic.run(minutes * 20, seed=1))
        before = quiet(server)
        warm = len(readings.all)
        asyncio.run(mixed_traffic.run(minutes * 40, seed=2))
        after, more = left(server, before)
    measured = readings.all[warm:]
    return {
        "minutes": minutes,
        "done": dict(mixed_traffic.done),
        "score": mixed_traffic.counts.figures,
        "wrong": mixed_traffic.counts.wrong + mixed_traffic.wrong,
        "lost": dict(mixed_traffic.counts.lost),
        "spread": spread(measured),
        "leaks": more,
        "before": before._asdict(),
        "after": after._asdict(),
        "readings": [one._asdict() for one in readings.all],
        "warm": warm,
    }


def checkpoints(folder: Path, names: Sequence[str] = CHECKPOINTS) -> list[str]:
    """Build small checkpoints; returns the flags that serve them."""
    for name in names:
        build(folder / name, name)
    return [f"--model={name}={folder / name}" for name in names]


def instrumented(*flags: str) -> Server:
    """A server that reports its internals, and whose device can be made to fail."""
    return Server(*flags, command=(sys.executable, str(Path(__file__).with_name("instrumented.py"))))


def draw(figures: dict[str, Any], file: Path) -> None:
    """Draw memory over time; the title has the end of the warm-up."""
    readings = figures["readings"]
    start = readings[0]["at"]
    step = max(len(readings) // 200, 1)
    points = [((one["at"] - start) / 60, one["resident"] / 2**20) for one in readings[::step]]
    warm = (readings[min(figures["warm"], len(readings) - 1)]["at"] - start) / 60
    chart.lines(
        file,
        f"Resident memory under mixed traffic; warm after {warm:.1f} minutes",
        ("minutes", "MB"),
        {"sie-server": [(x, Summary(y, y, y)) for x, y in points]},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--documents", type=int, default=50, help="in the pool of each model")
    parser.add_argument("--server", nargs="*", default=[], help="further flags of the server, as --server=--workers=1")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--svg", type=Path, help="draw memory over time here")
    arguments = parser.parse_args()
    end_cleanly()

    with tempfile.TemporaryDirectory() as folder:
        flags = checkpoints(Path(folder))
        workloads = [make_workload(EMBEDDED, 2, arguments.documents)]
        scored = [name for name in CHECKPOINTS if not name.endswith("-encoder")]
        workloads += [make_workload(name, 2, arguments.documents, text=checkpoint_words) for name in scored]
        encoders = {EMBEDDED: ["dense", "multivector"]}
        with instrumented("--preload", EMBEDDED, *flags, *arguments.server) as server:
            figures = soak(server, workloads, encoders, arguments.minutes)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    if arguments.svg:
        draw(figures, arguments.svg)
    flat = figures["spread"] <= FLAT or arguments.minutes < SHORTEST_MINUTES
    done, errors = Counter(figures["done"]), Counter(figures["score"]["errors"])
    columns = ("minutes", "done", "wrong", "lost", "errors", "memory after warm-up", "leaks")
    row = (
        f"{arguments.minutes:g}",
        format_counts(done),
        str(len(figures["wrong"])),
        format_counts(Counter(figures["lost"])),
        format_counts(errors),
        f"± {figures['spread']:.1%}",
        ", ".join(f"{name}: {were} → {are}" for name, (were, are) in figures["leaks"].items()) or "nothing",
    )
    print("\n".join(f"| {' | '.join(line)} |" for line in (columns, ("---",) * len(columns), row)))
    Console(stderr=True).print(*figures["wrong"][:5])
    return int(bool(figures["wrong"] or figures["lost"] or figures["leaks"] or not flat))


if __name__ == "__main__":
    sys.exit(main())
