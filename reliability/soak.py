"""Mixed traffic for a long time: is memory flat, and is everything that was opened closed again?

    .venv/bin/python reliability/soak.py --json soak.json --svg soak.svg      # 30 minutes
    .venv/bin/python reliability/soak.py --minutes 0.3 --documents 8          # half a minute

Clients rank 1 to 500 documents, embed, watch the status, send nonsense, and go in the middle of a request; what models
they ask for changes every few seconds, so that a server with a `--memory-budget` (`--server=--memory-budget=...`) loads
and drops them all the time. Answers are compared with those of each pair alone, bit for bit.

After a warm-up of a third of the time, memory is read every second, and is flat where the medians of ten parts lie
within 2 % of their middle. Before and after, with all clients gone, threads, open files, sockets and asyncio tasks are
counted: there may be no more after. In less than five minutes memory is only recorded, for an allocator fills up first.
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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bustle import Bustle
from footprint import Footprint, footprint, settled
from instance import EMBEDDED, Instance, end_cleanly
from mixture import Mixture, checkpoint_words, mixture
from rich.console import Console
from tally import counted
from traffic import closed
from truth import Truth

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
sys.path.append(str(Path(__file__).parents[1] / "packages" / "sie-server" / "tests"))
import chart
from checkpoints import build
from rounds import Summary

CHECKPOINTS = ("bert", "modernbert", "qwen3", "deberta", "bert-encoder")
FLAT, SHORTEST_MINUTES, PARTS = 0.02, 5.0, 10
TURN_S = 5.0
# Documents of the largest requests.
LARGE = 500
# The listener, and what the event loop wakes itself with.
_QUIET_SOCKETS = 4
# More requests at once than there are threads in any pool of the server.
_MANY = 16


class Readings:
    """Footprints of a process, one per second, while this is a context."""

    def __init__(self, pid: int) -> None:
        self.all: list[Footprint] = []
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
            self.all.append(footprint(self._pid))


def spread(readings: Sequence[Footprint]) -> float:
    """How far the medians of ten parts lie from their middle, as a share of it."""
    size = max(len(readings) // PARTS, 1)
    parts = [readings[at : at + size] for at in range(0, size * PARTS, size)]
    medians = [statistics.median(one.resident for one in part) for part in parts if part]
    return (max(medians) - min(medians)) / (max(medians) + min(medians))


def leaks(before: Footprint, after: Footprint, tasks: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """What there is more of after than before."""
    held = {name: (getattr(before, name), getattr(after, name)) for name in ("threads", "files", "sockets")}
    return {name: counts for name, counts in {**held, "tasks": tasks}.items() if counts[1] > counts[0]}


def soak(
    server: Instance, mixtures: Sequence[Mixture], encoders: dict[str, list[str]], minutes: float, large: int = LARGE
) -> dict[str, Any]:
    """Learn the truth, warm up for a third of the time, and soak for the rest: what there is to say about it."""
    truth = Truth()
    truth.learn(server.url, mixtures)
    bustle = Bustle(server.url, mixtures, truth, encoders, TURN_S, large)
    asyncio.run(bustle.learn())
    with Readings(server.pid) as readings:
        asyncio.run(bustle.run(minutes * 20, seed=1))
        # A pool starts a thread whenever all that it has are busy, up to its size: all at once, so that it is reached.
        asyncio.run(closed(server.url, [replace(mixtures[-1], sizes=(100,))], _MANY, _first()))
        before = settled(server.pid, sockets=_QUIET_SOCKETS)
        tasks_before = tasks(server.url)
        warm = len(readings.all)
        asyncio.run(bustle.run(minutes * 40, seed=2))
        after = settled(server.pid, sockets=before.sockets)
        tasks_after = tasks(server.url)
    measured = readings.all[warm:]
    return {
        "minutes": minutes,
        "done": dict(bustle.done),
        "score": bustle.tally.figures,
        "wrong": bustle.tally.wrong + bustle.wrong,
        "lost": dict(bustle.tally.lost),
        "spread": spread(measured),
        "leaks": leaks(before, after, (tasks_before, tasks_after)),
        "before": before._asdict(),
        "after": after._asdict(),
        "tasks": (tasks_before, tasks_after),
        "readings": [one._asdict() for one in readings.all],
        "warm": warm,
    }


def _first() -> Callable[[], bool]:
    """True for half a second."""
    until = time.monotonic() + 0.5
    return lambda: time.monotonic() < until


def tasks(url: str) -> int:
    """Asyncio tasks in an instrumented server that has nothing to do, without the one that counts."""
    with urllib.request.urlopen(f"{url}/tasks", timeout=60) as answer:
        count: int = json.load(answer)["tasks"]
    return count


def checkpoints(folder: Path, names: Sequence[str] = CHECKPOINTS) -> list[str]:
    """Build small checkpoints; the flags that serve them."""
    for name in names:
        build(folder / name, name)
    return [f"--model={name}={folder / name}" for name in names]


def instrumented(*flags: str) -> Instance:
    """A server that says how many tasks it has, and whose device can be told to fail."""
    return Instance(*flags, program=(sys.executable, str(Path(__file__).with_name("instrumented.py"))))


def draw(figures: dict[str, Any], file: Path) -> None:
    """Memory over time, with where the warm-up ended in the title."""
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
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--svg", type=Path, help="draw memory over time here")
    arguments = parser.parse_args()
    end_cleanly()

    with tempfile.TemporaryDirectory() as folder:
        flags = checkpoints(Path(folder))
        mixtures = [mixture(EMBEDDED, 2, arguments.documents)]
        scored = [name for name in CHECKPOINTS if not name.endswith("-encoder")]
        mixtures += [mixture(name, 2, arguments.documents, text=checkpoint_words) for name in scored]
        encoders = {EMBEDDED: ["dense", "multivector"]}
        with instrumented("--preload", EMBEDDED, *flags, *arguments.server) as server:
            figures = soak(server, mixtures, encoders, arguments.minutes)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    if arguments.svg:
        draw(figures, arguments.svg)
    flat = figures["spread"] <= FLAT or arguments.minutes < SHORTEST_MINUTES
    done, said = Counter(figures["done"]), Counter(figures["score"]["said"])
    columns = ("minutes", "done", "wrong", "lost", "refused or failed", "memory after warm-up", "more than before")
    row = (
        f"{arguments.minutes:g}",
        counted(done),
        str(len(figures["wrong"])),
        counted(Counter(figures["lost"])),
        counted(said),
        f"± {figures['spread']:.1%}",
        ", ".join(f"{name}: {were} → {are}" for name, (were, are) in figures["leaks"].items()) or "nothing",
    )
    print("\n".join(f"| {' | '.join(line)} |" for line in (columns, ("---",) * len(columns), row)))
    Console(stderr=True).print(*figures["wrong"][:5])
    return int(bool(figures["wrong"] or figures["lost"] or figures["leaks"] or not flat))


if __name__ == "__main__":
    sys.exit(main())
