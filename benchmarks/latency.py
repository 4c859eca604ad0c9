"""How long requests take through a server, alone and beside others, and where the time goes that is not the forward.

    python benchmarks/latency.py
    python benchmarks/latency.py --model ./my-reranker --requests 200 --json latency.json

The server runs in a process of its own, the clients on kept connections in threads of this one, with JSON bodies. All
times are on the client's clock but for the stages, which the server's timing headers name. Overhead is a request's time
less what the server counts as inference, from the first batch taken to the last result delivered. `transport` is what
no header covers: the client, sockets, HTTP parsing and writing. `decode` is what is left inside the server's total:
body, validation, admission, hand-over between threads.
"""

import argparse
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from sie_server.measure.served import Answer, Client, percentiles, serving
from sie_server.measure.workload import body, workload

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
SMALL, LARGE = 5, 1000
INSIDE = ("queue", "tokenization", "inference", "postprocessing")
STAGES = ("transport", "decode", "tokenization", "queue", "postprocessing", "inference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED, help="an id of the catalogue, or a folder")
    parser.add_argument("--requests", type=int, default=100, help="per client and case")
    parser.add_argument("--large", type=int, default=LARGE, help="documents of the request beside the small ones")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    folder = Path(arguments.model)
    model = folder.resolve().name if folder.is_dir() else arguments.model
    flags = ["--preload", model, "--precision", arguments.precision]
    flags += ["--model", f"{model}={folder}"] if folder.is_dir() else []
    cases: dict[str, list[Answer]] = {}
    with serving(*flags) as server:

        def connect() -> Client:
            return Client(server.url, model)

        cases["1 client x 1 document"] = alone(connect(), 1, arguments.requests)
        cases["1 client x 20"] = alone(connect(), 20, arguments.requests)
        cases["8 clients x 20"] = together(connect, 8, 20, max(arguments.requests // 8, 1))
        cases[f"1 client x {SMALL}"] = alone(connect(), SMALL, arguments.requests)
        cases[f"1 client x {SMALL} beside {arguments.large:,}"] = beside(connect, arguments.large, arguments.requests)
    figures = {
        case: {
            "requests": len(answers),
            "latency_ms": percentiles([answer.seconds for answer in answers]),
            "overhead_ms": percentiles([answer.seconds - answer.stages["inference"] for answer in answers]),
            "stages_ms": {name: percentiles([stages(answer)[name] for answer in answers]) for name in STAGES},
        }
        for case, answers in cases.items()
    }
    report(figures, model)
    if arguments.json:
        arguments.json.write_text(json.dumps({"model": model, "cases": figures}, indent=2))


def alone(client: Client, documents: int, requests: int) -> list[Answer]:
    """One request after the other, after two that are not counted."""
    request = body(*workload(documents, seed=documents))
    for _ in range(2):
        client.score(request)
    turns = track(range(requests), description=f"{documents} documents", console=Console(stderr=True))
    answers = [client.score(request) for _ in turns]
    client.close()
    return answers


def together(connect: Callable[[], Client], clients: int, documents: int, requests: int) -> list[Answer]:
    """So many clients at once, each one request after the other."""
    answers: list[list[Answer]] = [[] for _ in range(clients)]

    def run(mine: list[Answer]) -> None:
        mine.extend(alone(connect(), documents, requests))

    threads = [threading.Thread(target=run, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answer for mine in answers for answer in mine]


def beside(connect: Callable[[], Client], documents: int, requests: int) -> list[Answer]:
    """Small requests while a large one is always on its way; those between the end of one and the next count too."""
    request = body(*workload(documents, seed=documents))
    over = threading.Event()

    def keep_busy() -> None:
        client = connect()
        while not over.is_set():
            client.score(request)
        client.close()

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        return alone(connect(), SMALL, requests)
    finally:
        over.set()
        busy.join()


def stages(answer: Answer) -> dict[str, float]:
    """Seconds per stage; they add up to the client's."""
    inside = {name: answer.stages[name] for name in INSIDE}
    total = answer.stages["total"]
    return {**inside, "transport": answer.seconds - total, "decode": total - sum(inside.values())}


def report(figures: dict[str, dict[str, Any]], model: str) -> None:
    table = Table("ms", "p50", "p95", "p99", "overhead p50", *(f"{name} p50" for name in STAGES), title=model)
    for case, row in figures.items():
        latency = (f"{value:.1f}" for value in row["latency_ms"].values())
        parts = (f"{row['stages_ms'][name]['p50']:.2f}" for name in STAGES)
        table.add_row(case, *latency, f"{row['overhead_ms']['p50']:.2f}", *parts)
    Console(width=max(Console().width, 160)).print(table)


if __name__ == "__main__":
    main()
