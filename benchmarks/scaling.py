"""Cost per token by size of requests and documents, and where it starts to rise.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --models minilm-l12 --most-documents 300 --longest 512 --seconds 2     # a short run

In process, tokenization included, random weights, the sizes of real models (`engine.py`). Two sweeps:

requests: 1, 3, 10, 30 … documents of the usual lengths (pairs of 32 to 411 tokens, mean about 140).
documents: pairs of 16, 32, 64 … tokens as far as the model's positions go, in requests of one size in tokens.

A round measures every size once, the next one begins with another; a size whose rounds have taken `--seconds` is left
out of those that follow. A short request is repeated until that takes a tenth of a second. Cost is wall time over the
tokens of the pairs: with n cores, a core takes n times as long. CPU time, of all threads, is for a machine that has
other work: it hardly changes with that. `--by cpu` draws it, and says where it bends.

Documents are fitted by `per document / length + per token + per key · length`, least squares over relative errors, none
of them below zero. `operations` is what the arithmetic of the plain forward makes of the same lengths: linears once,
attention with the length, or with the window in the layers that have one.
"""

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from engine import SIZES, build, spread
from in_process import Ours, serving
from rich.console import Console
from tables import show, versions

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.hf_config import read_config
from sie_server.cli.bench.arithmetic import operations
from sie_server.cli.bench.figures import Summary
from sie_server.cli.bench.workload import text, workload
from sie_server.machine.processor import processor_name
from sie_testing import chart
from sie_testing.rounds import Timed, interleave

# Ratio to the cheapest cost from which the cost counts as risen.
BENT = 1.2
SHORTEST = 16
QUERY_WORDS = 4
LEAST_S = 0.1
AXES = {"requests": "documents in the request", "documents": "tokens of a pair"}


@dataclass(frozen=True)
class Point:
    """One size. wall, cpu: microseconds per token; `cost` is the one asked for. operations: per token."""

    size: int
    documents: int
    tokens: int
    wall: Summary
    cpu: Summary
    cost: Summary
    operations: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=["minilm-l12", "modernbert-base"])
    parser.add_argument("--layers", type=int, help="fewer than the model has, for a short run")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--most-documents", type=int, default=10_000)
    parser.add_argument("--longest", type=int, default=8192, help="tokens of a pair")
    parser.add_argument("--tokens", type=int, default=16_384, help="of a request while documents grow")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a size, over all rounds")
    parser.add_argument("--by", choices=("wall", "cpu"), default="wall", help="which time is the cost")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--svg", type=Path, help="draw them here, with -requests and -documents behind the name")
    arguments = parser.parse_args()

    sweeps: dict[str, dict[str, list[Point]]] = {"requests": {}, "documents": {}}
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), name, arguments.layers)
            entry = Entry("model", folder=Path(folder), score="logit", max_length=arguments.longest)
            with serving(entry, precision=arguments.precision, device="cpu") as engine:
                for sweep, requests in (("requests", growing_requests), ("documents", growing_documents)):
                    Console(stderr=True).print(f"{name}: {sweep}")
                    sweeps[sweep][name] = measure(engine, Path(folder), requests(arguments, engine), arguments)
    about = {**versions(), "precision": arguments.precision, "rounds": arguments.rounds}
    for sweep, models in sweeps.items():
        times = ("µs per token", "CPU µs per token", f"× cheapest, {arguments.by}")
        columns = ("model", AXES[sweep], "documents", "tokens", *times, "operations, × least")
        show(columns, [line for name in models for line in cells(name, models[name])], about, arguments.markdown)
        for name, points in models.items():
            print("\n" + bend(name, sweep, points))
        print()
    if arguments.json:
        figures = {
            sweep: {name: [plain(point) for point in points] for name, points in models.items()}
            for sweep, models in sweeps.items()
        }
        fits = {name: fit(points) for name, points in sweeps["documents"].items()}
        arguments.json.write_text(
            json.dumps({"processor": processor_name(), **about, **figures, "fit_us": fits}, indent=2)
        )
    if arguments.svg:
        for sweep, models in sweeps.items():
            file = arguments.svg.with_stem(f"{arguments.svg.stem}-{sweep}")
            series = {name: [(float(p.size), p.cost) for p in points] for name, points in models.items()}
            title = f"Cost of a token as {sweep} grow, {arguments.precision}"
            unit = "µs per token" if arguments.by == "wall" else "CPU µs per token"
            chart.lines(file, title, (AXES[sweep], unit), series, log=True)


def growing_requests(arguments: argparse.Namespace, _: Ours) -> dict[int, tuple[str, list[str]]]:
    """By number of documents: 1, 3, 10, 30 …"""
    steps = chain.from_iterable((10**power, 3 * 10**power) for power in count())
    return {size: workload(size, seed=size) for size in takewhile(lambda n: n <= arguments.most_documents, steps)}


def growing_documents(arguments: argparse.Namespace, engine: Ours) -> dict[int, tuple[str, list[str]]]:
    """By tokens of a pair, each in as many documents as make `--tokens`, two at least, so that two cores have work."""
    rng = random.Random(3)
    query = text(rng, QUERY_WORDS)
    # What the tokenizer puts around a pair is not known here, so it is asked.
    special = engine.score(query, ["time"]).lengths[0] - 1
    longest = min(arguments.longest, engine.model.max_length)
    sizes = takewhile(lambda size: size <= longest, (SHORTEST * 2**power for power in count()))
    return {
        size: (query, [text(rng, size - special) for _ in range(max(arguments.tokens // size, 2))]) for size in sizes
    }


def measure(
    engine: Ours, folder: Path, requests: dict[int, tuple[str, list[str]]], arguments: argparse.Namespace
) -> list[Point]:
    """Run rounds over all sizes, after a warm-up of each."""
    config = read_config(Checkpoint(folder))
    runs: dict[str, Timed] = {}
    times: dict[str, int] = {}
    lengths: dict[str, list[int]] = {}
    spent: dict[str, float] = {}
    console = Console(stderr=True)
    for size, (query, documents) in requests.items():
        started = time.perf_counter()
        lengths[str(size)] = engine.score(query, documents).lengths
        spent[str(size)] = time.perf_counter() - started
        times[str(size)] = math.ceil(LEAST_S / spent[str(size)])
        runs[str(size)] = Timed(partial(repeat, times[str(size)], partial(engine.score, query, documents)))
        console.print(f"  {size}: {spent[str(size)]:.2f} s", highlight=False)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(arguments.rounds):
        due = {name: run for name, run in runs.items() if not seconds[name] or spent[name] < arguments.seconds}
        for name, measured in interleave(due, [turn]).items():
            seconds[name] += measured
            spent[name] += sum(measured)
        console.print(f"  round {turn + 1} of {arguments.rounds}", highlight=False)
    points = []
    for name, run in runs.items():
        tokens = sum(lengths[name])
        per_token = 1e6 / times[name] / tokens
        wall, cpu = (Summary.of(value * per_token for value in values) for values in (seconds[name], run.cpu))
        work = operations(engine.model, config, lengths[name]) / tokens
        cost = {"wall": wall, "cpu": cpu}[arguments.by]
        points.append(Point(int(name), len(lengths[name]), tokens, wall, cpu, cost, work))
    return points


def repeat(times: int, run: Callable[[], object]) -> None:
    for _ in range(times):
        run()


def fit(points: list[Point]) -> dict[str, float]:
    """Microseconds per document, per token, and per token and key, and their sum's largest relative error."""
    lengths = np.array([point.size for point in points], dtype=float)
    costs = np.array([point.cost.median for point in points])
    terms = {"document": 1 / lengths, "token": np.ones_like(lengths), "key": lengths}
    names = list(terms)
    while True:
        table = np.stack([terms[name] for name in names], axis=1) / costs[:, None]
        found, *_ = np.linalg.lstsq(table, np.ones(len(points)), rcond=None)
        if (found >= 0).all():
            break
        # Few terms: dropping the most negative one until none is left is the non-negative solution here.
        names.pop(int(found.argmin()))
    error = float(abs(table @ found - 1).max())
    return {**dict.fromkeys(terms, 0.0), **dict(zip(names, found.tolist(), strict=True)), "error": error}


def bend(name: str, sweep: str, points: list[Point]) -> str:
    """Sizes at which the cost rises above its minimum, on either side, and by how much."""
    cheapest = min(points, key=lambda point: point.cost.median)
    bent = [point for point in points if times_cheapest(point, points) > BENT]
    few, many = ([p for p in bent if (p.size < cheapest.size) is smaller] for smaller in (True, False))
    said = [f"{name}: cheapest at {cheapest.size:,} {AXES[sweep]}, {cheapest.cost.median:.0f} µs per token"]
    if few:
        said.append(f"bends at {few[-1].size:,} and fewer, {times_cheapest(few[0], points):.2f} × at {few[0].size:,}")
    if many:
        said.append(
            f"bends at {many[0].size:,} and more, {times_cheapest(many[-1], points):.2f} × at {many[-1].size:,}"
        )
    if not bent:
        said.append(f"flat: {max(times_cheapest(point, points) for point in points):.2f} × at most")
    if sweep == "documents" and len(points) > 3:
        found, last = fit(points), points[-1]
        share = found["key"] * last.size / (found["document"] / last.size + found["token"] + found["key"] * last.size)
        said += [
            f"fitted within {found['error']:.0%}, a document costs {found['document']:.0f} µs, a token "
            f"{found['token']:.1f} µs and {1e3 * found['key']:.2f} ns per key",
            f"what grows with the square is {share:.0%} at {last.size:,} tokens",
        ]
    return "; ".join(said) + "."


def times_cheapest(point: Point, points: list[Point]) -> float:
    return point.cost.median / min(other.cost.median for other in points)


def cells(name: str, points: list[Point]) -> list[list[str]]:
    least = min(point.operations for point in points)
    return [
        [
            name,
            f"{point.size:,}",
            f"{point.documents:,}",
            f"{point.tokens:,}",
            *(spread(time, ".1f") for time in (point.wall, point.cpu)),
            f"{times_cheapest(point, points):.2f}",
            f"{point.operations / least:.2f}",
        ]
        for point in points
    ]


def plain(point: Point) -> dict[str, Any]:
    """Results for JSON."""
    times = {"wall": asdict(point.wall), "cpu": asdict(point.cpu), "cost": asdict(point.cost)}
    return {**vars(point), **times}


if __name__ == "__main__":
    main()
