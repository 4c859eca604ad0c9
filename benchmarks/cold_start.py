"""Cold start: seconds from the start of the server's process to its first score, with files in the page cache.

    python benchmarks/cold_start.py
    python benchmarks/cold_start.py --model ./my-reranker --rounds 9 --json cold_start.json

The server runs as a user starts it, `sie-server serve --preload MODEL`. `ready` is when it says so, `first score` when
a request sent then, of one document, is answered. CPU seconds are those of all its threads, which other work on the
machine changes little. `imports` is `python -c "import sie_server.server"`. A start before the first round fills the
page cache, and compiles the server's modules as an installation does.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from sie_server.cli.bench.figures import Summary
from sie_server.cli.bench.server_process import ServerProcess
from sie_server.cli.bench.through_server import Client
from sie_server.cli.bench.workload import body, workload
from sie_server.machine.processor import processor_name
from sie_testing.process import named, usage

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
IMPORTS = "imports"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED, help="an id of the catalogue, or a folder")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    model, flags = named(arguments.model, arguments.precision)
    flags += ["--preload", model]
    start(flags, model)
    turns = track(range(arguments.rounds), description="starting", console=Console(stderr=True))
    starts = [{IMPORTS: imports(), **start(flags, model)} for _ in turns]
    seconds = {name: [one[name] for one in starts] for name in starts[0]}
    table = Table("s", "median", "least", "most", title=f"{model}, {arguments.rounds} starts")
    for name, values in seconds.items():
        table.add_row(name, *(f"{value:.2f}" for value in astuple(Summary.of(values))))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"processor": processor_name(), "model": model, "seconds": seconds}, indent=2)
        )


def start(flags: list[str], model: str) -> dict[str, float]:
    """Measure one start, in seconds."""
    request = body(*workload(1))
    started = time.perf_counter()
    with ServerProcess(*flags) as server:
        ready = time.perf_counter() - started
        client = Client(server.url, model)
        client.score(request)
        scored = time.perf_counter() - started
        client.close()
        return {"ready": ready, "first score": scored, "CPU": usage(server.pid).cpu_s}


def imports() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import sie_server.server"], check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
