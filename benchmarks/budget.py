"""Documents per second by token budget, by number of cores, by precision, and by size of the tokenizer pool.

    python benchmarks/budget.py
    python benchmarks/budget.py --cores 1 --budgets 256 512 --documents 20 --rounds 2 --layers 2      # a short run

Each number of cores is measured in a process of its own that may run on only that many (sched_setaffinity(2)): its
engine starts one device thread per core, each with one intra-operation thread. The model is MiniLM-L-12 with random
weights, unless `--model` names another.

budgets: one request of `--documents`, and 5 documents that arrive while it runs and wait for a batch of it. The choice
is the smallest budget whose documents per second are within 5 % of the best, since others wait less with a smaller one.
pools: eight requests of 20 documents at once, at the default budget.

All candidates of a number of cores take turns in one process. CPU milliseconds are those of all its threads, which
other work on the machine changes less than the wall time.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from engine import SIZES, build, spread
from in_process import Ours, serving
from tables import show, versions

from sie_server.catalog.catalog import Entry
from sie_server.cli.bench.figures import Summary
from sie_server.cli.bench.workload import workload
from sie_server.machine.processor import processor_name
from sie_testing.rounds import Timed, interleave

NEAR = 0.95
BESIDE, CLIENTS, FEW = 5, 8, 20
HEAD_START_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="minilm-l12")
    parser.add_argument("--layers", type=int, help="fewer than the model has, for a short run")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--budgets", type=int, nargs="+", default=[256, 384, 512, 768, 1024, 2048, 4096, 8192])
    parser.add_argument("--precisions", nargs="+", default=["float32", "auto"])
    parser.add_argument("--pools", type=int, nargs="+", default=[1, 2, 4, 8], help="threads that tokenize")
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    available = sorted(os.sched_getaffinity(0))
    if max(arguments.cores) > len(available):
        parser.error(f"there are {len(available)} cores")
    figures: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), arguments.model, arguments.layers)
        for cores in arguments.cores:
            # Threads and processes inherit the CPU affinity of the thread that starts them.
            os.sched_setaffinity(0, available[:cores])
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                figures[cores] = process.submit(measure, Path(folder), arguments).result()
            os.sched_setaffinity(0, available)
    report(figures, arguments)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all candidates on this process's cores."""
    entry = Entry("model", folder=folder, score="logit")
    query, documents = workload(arguments.documents)
    few = [workload(FEW, seed=seed) for seed in range(CLIENTS)]
    with ExitStack() as stack:
        open_engine = partial(_opened, stack, entry)
        calls: dict[str, Timed] = {}
        engines: dict[str, Ours] = {}
        for precision in arguments.precisions:
            for budget in arguments.budgets:
                engine = engines[f"{precision} {budget}"] = open_engine(precision=precision, batch_tokens=budget)
                calls[f"{precision} {budget}"] = Timed(partial(engine.score, query, documents))
        clients = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        for threads in arguments.pools:
            engine = open_engine(precision=arguments.precisions[-1], tokenizer_threads=threads)
            calls[f"pool {threads}"] = Timed(partial(together, clients, engine, few))
        for call in calls.values():
            call()
            call.cpu.clear()
        seconds = interleave(calls, range(arguments.rounds))
        waits = {
            name: [beside(engine, query, documents) for _ in range(arguments.rounds)]
            for name, engine in engines.items()
        }
    return {"seconds": seconds, "cpu": {name: call.cpu for name, call in calls.items()}, "beside": waits}


def _opened(stack: ExitStack, entry: Entry, **settings: Any) -> Ours:
    return stack.enter_context(serving(entry, device="cpu", **settings))


def together(clients: ThreadPoolExecutor, engine: Ours, requests: Sequence[tuple[str, list[str]]]) -> None:
    """Send all requests at once."""
    for scored in [clients.submit(engine.score, query, documents) for query, documents in requests]:
        scored.result()


def beside(engine: Ours, query: str, documents: list[str]) -> float:
    """Latency, in seconds, of a small request that arrives while a large one runs."""
    large = threading.Thread(target=engine.score, args=(query, documents))
    large.start()
    time.sleep(HEAD_START_S)
    started = time.perf_counter()
    engine.score(*workload(BESIDE, seed=5))
    waited = time.perf_counter() - started
    large.join()
    return waited


def report(figures: dict[int, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print two tables, and the choice by the rule."""
    budgets, pools, chosen = [], [], []
    for cores, found in figures.items():
        rates = {
            name: Summary.of(_documents(name, arguments) / s for s in times) for name, times in found["seconds"].items()
        }
        cpu = {
            name: Summary.of(s / _documents(name, arguments) * 1e3 for s in times)
            for name, times in found["cpu"].items()
        }
        cells = {name: [spread(rates[name], ".1f"), spread(cpu[name], ".1f")] for name in rates}
        for precision in arguments.precisions:
            names = [f"{precision} {budget}" for budget in arguments.budgets]
            best = max(rates[name].median for name in names)
            choice = next(name for name in names if rates[name].median >= NEAR * best)
            chosen.append(f"{cores} cores, {precision}: {choice.split()[1]} tokens")
            for name in names:
                waited = Summary.of(1e3 * s for s in found["beside"][name])
                share = f"{rates[name].median / best:.0%}"
                budgets.append(
                    [str(cores), *name.split(), cells[name][0], share, cells[name][1], spread(waited, ".0f")]
                )
        pools += [[str(cores), str(threads), *cells[f"pool {threads}"]] for threads in arguments.pools]
    about = {**versions(), "model": arguments.model, "documents": arguments.documents, "rounds": arguments.rounds}
    wait = f"{BESIDE} documents beside them, ms"
    columns = ("cores", "precision", "budget", "docs/s", "of the best", "CPU ms per document", wait)
    show(columns, budgets, about, arguments.markdown)
    print("\nthe smallest within 5 %: " + "; ".join(chosen) + "\n")
    show(("cores", "tokenizer threads", "docs/s", "CPU ms per document"), pools, about, arguments.markdown)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"processor": processor_name(), **about, "cores": figures, "chosen": chosen}, indent=2)
        )


def _documents(name: str, arguments: argparse.Namespace) -> int:
    return CLIENTS * FEW if name.startswith("pool") else int(arguments.documents)


if __name__ == "__main__":
    main()
