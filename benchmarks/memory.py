"""Memory of a server: at start, with a model, during one very large request, and during many small ones.

    python benchmarks/memory.py
    python benchmarks/memory.py --documents 500 --requests 400 --every 50     # seconds, not minutes

The large request is raw HTTP and JSON, as large as the server takes at all by default: 10,000 documents of the usual
lengths, in one body. The small ones are 2 documents of 5 to 40 words, no two requests the same, one after the other,
and resident memory is read in between. Growth is the slope of a straight line through the second half of those
readings: an allocator fills up first. Resident memory counts pages of files that are mapped; `anonymous` does not.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from sie_server.cli.bench.figures import Summary
from sie_server.cli.bench.server_process import ServerProcess
from sie_server.cli.bench.through_server import Client
from sie_server.cli.bench.workload import body, text, workload
from sie_testing import chart
from sie_testing.process import Usage, forget_peak, named, usage

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
MB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED, help="an id of the catalogue, or a folder")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--documents", type=int, default=10_000, help="of the large request")
    parser.add_argument("--requests", type=int, default=20_000, help="small ones")
    parser.add_argument("--every", type=int, default=500, help="requests between two readings")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--svg", type=Path, help="draw the readings here")
    arguments = parser.parse_args()

    model, flags = named(arguments.model, arguments.precision)
    large = body(*workload(arguments.documents))
    moments: dict[str, Usage] = {}
    with ServerProcess(*flags) as server:
        client = Client(server.url, model)
        moments["started"] = usage(server.pid)
        client.score(body(*workload(1)))  # loads the model
        moments["model loaded"] = usage(server.pid)
        forget_peak(server.pid)
        started = time.perf_counter()
        client.score(large)
        seconds = time.perf_counter() - started
        moments[f"{arguments.documents:,} documents"] = usage(server.pid)
        forget_peak(server.pid)
        readings = small(client, server.pid, arguments.requests, arguments.every)
        moments[f"{arguments.requests:,} small requests"] = usage(server.pid)
        client.close()
    growth = slope(readings[len(readings) // 2 :])
    figures = {
        "model": model,
        "precision": arguments.precision,
        "body_mb": len(large) / MB,
        "large_s": seconds,
        "moments": {name: one._asdict() for name, one in moments.items()},
        "readings": readings,
        "growth_bytes_per_request": growth,
    }
    columns = ("after", "resident, MB", "peak since the line above, MB", "anonymous, MB", "threads")
    rows = [
        (name, *(f"{value / MB:,.0f}" for value in (one.resident, one.peak, one.anonymous)), str(one.threads))
        for name, one in moments.items()
    ]
    if arguments.markdown:
        print("\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows)))
    else:
        table = Table(*columns, title=f"{model}, {arguments.precision}")
        for row in rows:
            table.add_row(*row)
        Console(width=max(Console().width, 110)).print(table)
    print(f"the large request: {len(large) / MB:.1f} MB of JSON, {seconds:.1f} s")
    print(f"growth over the second half of the small requests: {growth * 1000 / 1024:+.1f} kB per 1,000 requests")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    if arguments.svg:
        points = [(count, Summary.of([resident / MB])) for count, resident in readings]
        chart.lines(
            arguments.svg,
            f"Resident memory of a server after a request of {arguments.documents:,} documents",
            ("small requests", "MB"),
            {model: points},
        )


def small(client: Client, pid: int, requests: int, every: int) -> list[tuple[int, int]]:
    """Send requests; returns (requests so far, resident bytes) after every `every` requests."""
    rng = random.Random(7)
    readings = [(0, usage(pid).resident)]
    for count in track(range(1, requests + 1), description="small requests", console=Console(stderr=True)):
        client.score(body(text(rng, 5), [text(rng, rng.randint(5, 40)) for _ in range(2)]))
        if count % every == 0:
            readings.append((count, usage(pid).resident))
    return readings


def slope(readings: list[tuple[int, int]]) -> float:
    """Growth in bytes per request, by least squares; 0 for a single reading."""
    if len(readings) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*readings, strict=True)).slope


if __name__ == "__main__":
    main()
