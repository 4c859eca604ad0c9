"""Latency of requests through a server, alone and under load, and the overhead outside the forward pass by stage.

    python benchmarks/latency.py
    python benchmarks/latency.py --model ./my-reranker --requests 200 --json latency.json --svg latency.svg
    python benchmarks/latency.py --fixed-cost 10 --other ../before/packages/sie-server/src

The server runs in a process of its own, the clients on kept connections in threads of this one, with JSON bodies that
are encoded beforehand; `SDK` rows encode and decode in their time. All times are on the client's clock but for the
stages, which the server's timing headers name. "Not the forward" is a request's time less what the server counts as
inference, from the first batch taken to the last one through; where other requests are under way, most of it is the
wait for their batches, `queue`. `transport` is what no header covers: the client, sockets, HTTP parsing and writing.
`decode` is what is left inside the server's total: body, validation, admission, hand-over between threads, ranking.

The texts are made of ninety words, which a tokenizer that splits at spaces looks up after the first request; words that
are new to it cost more (LOG.md).

A small request that arrives during a large one should wait for about one batch: the last lines say how long a batch
takes on average, and how much later than on an idle server 95 of 100 small requests are answered.
"""

import argparse
import json
import random
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import astuple
from functools import partial
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
from engine import build
from raw_clients import load
from rich.console import Console
from rich.progress import track
from tables import show

from sie_sdk import SIEClient
from sie_sdk.types import Item
from sie_server.cli.bench.figures import Summary
from sie_server.cli.bench.latency import alone, overhead, together
from sie_server.cli.bench.server_process import ServerProcess
from sie_server.cli.bench.through_server import STAGES, Answer, Client, percentiles, stages
from sie_server.cli.bench.workload import body, text, workload
from sie_server.machine.processor import processor_name
from sie_testing import chart
from sie_testing.process import usage

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
SMALL, LARGE, CLIENTS, FEW_ROUNDS = 5, 1000, 8, 5
INSIDE = tuple(stage for stage in STAGES if stage != "total")
PARTS = ("transport", "decode", "tokenization", "queue", "postprocessing", "inference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED, help="an id of the catalogue, or a folder")
    parser.add_argument("--requests", type=int, default=100, help="per case, and per client where they are small")
    parser.add_argument("--large", type=int, default=LARGE, help="documents of a large request")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--svg", type=Path, help="draw medians and 95th percentiles here")
    parser.add_argument("--fixed-cost", type=int, metavar="TURNS", help="measure this instead, in so many turns")
    parser.add_argument("--other", type=Path, help="source folder of another version, for --fixed-cost")
    arguments = parser.parse_args()
    if arguments.fixed_cost:
        fixed_cost(arguments.fixed_cost, arguments.other, arguments.markdown)
        return

    folder = Path(arguments.model)
    model = folder.resolve().name if folder.is_dir() else arguments.model
    flags = ["--preload", model, "--precision", arguments.precision]
    flags += ["--model", f"{model}={folder}"] if folder.is_dir() else []
    with ServerProcess(*flags) as server:
        cases = measured(server.url, model, arguments.requests, arguments.large)
        before = batches(server.url, model)
        cases[small(arguments.large)] = beside(
            partial(Client, server.url, model),
            arguments.large,
            turns(f"beside {arguments.large:,}", arguments.requests),
        )
        batch_ms = mean_ms(before, batches(server.url, model))
    figures = {case: summary(answers) for case, answers in cases.items()}
    idle, busy = (figures[case]["latency_ms"]["p95"] for case in (small(), small(arguments.large)))
    about = {"model": model, "precision": arguments.precision, "ms per batch": f"{batch_ms:.1f}"}
    report(figures, about, arguments.markdown)
    print(f"p95 beside {arguments.large:,} documents: {busy - idle:+.1f} ms, {(busy - idle) / batch_ms:.1f} batches")
    if arguments.json:
        arguments.json.write_text(json.dumps({"processor": processor_name(), **about, "cases": figures}, indent=2))
    if arguments.svg:
        latencies = {case: row["latency_ms"] for case, row in figures.items() if f"x {arguments.large:,}" not in case}
        bars = {case: Summary(row["p50"], row["p50"], row["p95"]) for case, row in latencies.items()}
        chart.write(arguments.svg, f"Latency of {model}, p50 to p95", "ms", bars)


def fixed_cost(turns: int, other: Path | None, markdown: bool) -> None:
    """Measure requests to a model that computes next to nothing, and print them."""
    versions: dict[str, dict[str, str]] = {"this version": {}} | (
        {} if other is None else {"other": {"PYTHONPATH": str(other.resolve())}}
    )
    rng = random.Random(0)
    asked = [(text(rng, 6), [text(rng, 14) for _ in range(20)]) for _ in range(8)]
    routes = {
        "/v1/score/tiny": [body(query, documents) for query, documents in asked],
        "/v1/rerank": [
            msgspec.json.encode({"model": "tiny", "query": query, "documents": documents}) for query, documents in asked
        ],
    }
    found: dict[tuple[int, str, str], list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        build(Path(name), "tiny", None)
        flags = ("--model", f"tiny={name}", "--preload", "tiny")
        servers = {
            one: stack.enter_context(ServerProcess(*flags, environment=environment))
            for one, environment in versions.items()
        }
        for turn in track(range(turns + 1), description="fixed cost", console=Console(stderr=True)):
            for clients, path, one in product((1, CLIENTS), routes, servers if turn % 2 else reversed(servers)):
                before = usage(servers[one].pid).cpu_s
                replies, seconds = load(servers[one].url, path, routes[path], clients, 0.5)
                cpu = (usage(servers[one].pid).cpu_s - before) / len(replies) * 1e6
                middle = [statistics.median(values) * 1e3 for values in zip(*replies, strict=True)]
                if turn:  # the first one warms up
                    found.setdefault((clients, path, one), []).append((len(replies) / seconds, *middle, cpu))
    lines = [
        [f"{clients} × 20", path, one, *(spread(values) for values in zip(*rows, strict=True))]
        for (clients, path, one), rows in found.items()
    ]
    columns = ("clients", "route", "server", "requests/s", "p50 ms", "inference ms", "CPU µs/request")
    show(columns, lines, {"turns": turns}, markdown, note="median (least to most) of turns")


def spread(values: Iterable[float]) -> str:
    """Median, least and most."""
    middle, low, high = astuple(Summary.of(values))
    return f"{middle:,.4g} ({low:,.4g}–{high:,.4g})"


def measured(url: str, model: str, requests: int, large: int) -> dict[str, list[Answer]]:
    """Run all cases but the last, in which small requests arrive during large ones."""
    connect = partial(Client, url, model)
    cases: dict[str, list[Answer]] = {}
    for documents, count in ((1, requests), (20, requests), (SMALL, requests), (large, FEW_ROUNDS)):
        request = body(*workload(documents, seed=documents))
        cases[f"1 client x {documents:,}"] = alone(connect(), request, turns(f"{documents:,} documents", count))
    cases["1 client x 20, SDK"] = through_sdk(url, model, 20, turns("20 documents, SDK", requests))
    each = max(requests // CLIENTS, 1)
    request = body(*workload(20, seed=20))
    cases[f"{CLIENTS} clients x 20"] = together(connect, CLIENTS, request, partial(range, each))
    return cases


def small(beside: int = 0) -> str:
    """Name of the case of a small request, alone or during a large one."""
    return f"1 client x {SMALL}" + (f" beside {beside:,}" if beside else "")


def turns(description: str, count: int) -> Any:
    """Iterate over `requests` numbers, with a progress bar."""
    return track(range(count), description=description, console=Console(stderr=True))


def through_sdk(url: str, model: str, documents: int, turns: Any) -> list[Answer]:
    """Like `alone`, through the blocking SDK."""
    query, texts = workload(documents, seed=documents)
    items = [Item(text=text) for text in texts]
    headers: list[httpx2.Headers] = []
    answers = []
    seen = httpx2.Client(event_hooks={"response": [lambda response: headers.append(response.headers)]})
    with seen, SIEClient(url, http_client=seen) as client:
        for _ in range(2):
            client.score(model, Item(text=query), items)
        for _ in turns:
            started = time.perf_counter()
            client.score(model, Item(text=query), items)
            seconds = time.perf_counter() - started
            answers.append(Answer(seconds, stages(headers[-1]), b""))
    return answers


def beside(connect: Callable[[], Client], documents: int, turns: Any) -> list[Answer]:
    """Send small requests while a large one is nearly always in flight."""
    large, request = (body(*workload(count, seed=count)) for count in (documents, SMALL))
    over = threading.Event()

    def keep_busy() -> None:
        client = connect()
        while not over.is_set():
            client.score(large)
        client.close()

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        return alone(connect(), request, turns)
    finally:
        over.set()
        busy.join()


def batches(url: str, model: str) -> tuple[float, float]:
    """Device seconds, and number of batches, since the server started."""
    with closing(HTTPConnection(urlsplit(url).netloc)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    series = rf'sie_batch_duration_seconds_(sum|count){{model="{re.escape(model)}"}} (\S+)'
    of = {name: float(value) for name, value in re.findall(series, text)}
    return of["sum"], of["count"]


def mean_ms(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Mean milliseconds of a batch between two readings."""
    return (after[0] - before[0]) / (after[1] - before[1]) * 1e3


def parts(answer: Answer) -> dict[str, float]:
    """Seconds per stage, which add up to the client's latency."""
    inside = {name: answer.stages[name] for name in INSIDE}
    total = answer.stages["total"]
    return {**inside, "transport": answer.seconds - total, "decode": total - sum(inside.values())}


def summary(answers: list[Answer]) -> dict[str, Any]:
    """Results of one case."""
    return {
        "requests": len(answers),
        "latency_ms": percentiles([answer.seconds for answer in answers]),
        "not_the_forward_ms": percentiles([*map(overhead, answers)]),
        "stages_ms": {name: percentiles([parts(answer)[name] for answer in answers]) for name in PARTS},
    }


def report(figures: dict[str, dict[str, Any]], about: dict[str, Any], markdown: bool) -> None:
    columns = ("ms", "requests", "p50", "p95", "p99", "not the forward: p50", "p95", *PARTS)
    lines = []
    for case, row in figures.items():
        latency = (f"{value:.1f}" for value in row["latency_ms"].values())
        beside = (f"{row['not_the_forward_ms'][name]:.2f}" for name in ("p50", "p95"))
        each = (f"{row['stages_ms'][name]['p50']:.2f}" for name in PARTS)
        lines.append([case, str(row["requests"]), *latency, *beside, *each])
    show(columns, lines, about, markdown, note="stages: p50")


if __name__ == "__main__":
    main()
