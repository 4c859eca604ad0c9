"""Documents per second through the server, as a share of the in-process rate of the same run.

    python benchmarks/server.py

One server in a process of its own, and one engine in this one, take turns, so that neither has the other beside it:
MiniLM-L-12 with random weights, one request of 100 documents each. Raw HTTP is a kept connection with bodies encoded
beforehand; the SDK encodes and decodes in its time.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from engine import build, workload
from in_process import serving as in_process
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rounds import Summary, interleave, ratios

from sie_sdk import SIEClient
from sie_sdk.types import Item
from sie_server.measure.served import JSON, MSGPACK, Client, serving
from sie_server.models.catalog import Entry

BASELINE, MODEL = "in process", "minilm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, help="fewer than the model has, for a short run")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, "minilm-l12", arguments.layers)
        query, documents = workload(folder, arguments.documents)
        asked = {"query": {"text": query}, "items": [{"text": document} for document in documents]}
        bodies = {JSON: msgspec.json.encode(asked), MSGPACK: msgspec.msgpack.encode(asked)}
        items = [Item(text=document) for document in documents]
        with (
            in_process(Entry(MODEL, folder=folder, score="logit")) as engine,
            serving("--model", f"{MODEL}={folder}", "--preload", MODEL) as server,
            SIEClient(server.url) as sdk,
        ):
            client = Client(server.url, MODEL)
            candidates: dict[str, Callable[[], object]] = {
                BASELINE: lambda: engine.score(query, documents),
                "HTTP, JSON": lambda: client.score(bodies[JSON], JSON, JSON),
                "HTTP, MessagePack": lambda: client.score(bodies[MSGPACK], MSGPACK, MSGPACK),
                "SDK": lambda: sdk.score(MODEL, Item(text=query), items),
            }
            for run in candidates.values():
                run()
            turns = track(range(arguments.rounds), description="measuring", console=Console(stderr=True))
            seconds = interleave(candidates, turns)
            client.close()
    rates = {one: Summary.of(arguments.documents / value for value in values) for one, values in seconds.items()}
    shares = {one: ratios(seconds[BASELINE], values) for one, values in seconds.items()}
    table = Table("through", "docs/s", "share of in process", title=f"{arguments.documents} documents")
    for one, rate in rates.items():
        share = shares[one]
        table.add_row(one, f"{rate.median:.1f}", f"{share.median:.1%} ({share.low:.1%}–{share.high:.1%})")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"documents": arguments.documents, "seconds": seconds}, indent=2))


if __name__ == "__main__":
    main()
