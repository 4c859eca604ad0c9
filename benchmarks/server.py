"""Documents per second through the server, compared with the engine in process and infinity-emb's server.

    python benchmarks/server.py
    python benchmarks/server.py --infinity /path/to/venv/bin/python

One server in a process of its own, one engine in this one and, where `--infinity` names an interpreter that has it,
infinity-emb's server in float32 and in bfloat16 take turns, so that only one runs at a time: MiniLM-L-12 with random
weights, requests of 100 documents, JSON bodies encoded beforehand on kept connections. The SDK encodes and decodes in
its time. Scores are compared with ours in process before anything is timed.

Every candidate has `--clients` requests under way at once, two by default: while the device works at one, the next is
read and tokenized, which is how a server is used. With one, the device waits for each answer to be written and the next
request to be read.

Without `--infinity`, or where it does not start, a line says so. Its environment: `python -m venv infinity &&
infinity/bin/pip install "infinity-emb[server,torch]==0.0.78"`; see the README.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import msgspec
from engine import build, workload
from in_process import serving as in_process
from peers import Reranking, has, infinity
from rich.console import Console
from rich.progress import track
from tables import show

from sie_sdk import SIEClient
from sie_sdk.types import Item, ScoreResult
from sie_server.catalog.catalog import Entry
from sie_server.cli.bench.figures import Summary
from sie_server.cli.bench.server_process import ServerProcess
from sie_server.cli.bench.through_server import JSON, MSGPACK, Client
from sie_server.machine.processor import processor_name
from sie_testing.rounds import interleave, ratios

BASELINE, MODEL = "sie in process", "minilm"
# Largest difference from the baseline, over the spread of its scores: both sides may run in bfloat16.
ALLOWED = 0.15
Run = Callable[[], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100, help="of a request")
    parser.add_argument("--clients", type=int, default=2, help="requests under way at once")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, help="fewer than the model has, for a short run")
    parser.add_argument("--infinity", type=Path, help="interpreter that has infinity-emb")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        build(folder, "minilm-l12", arguments.layers)
        query, documents = workload(folder, arguments.documents)
        runs = ours(stack, folder, query, documents, arguments.clients)
        peers = theirs(stack, arguments.infinity, folder, query, documents, arguments.clients)
        runs.update(peers)
        compare({one: run() for one, (run, *_) in runs.items()})
        pool = stack.enter_context(ThreadPoolExecutor(arguments.clients))
        candidates = {one: partial(at_once, pool, calls) for one, calls in runs.items()}
        turns = track(range(arguments.rounds), description="measuring", console=Console(stderr=True))
        seconds = interleave(candidates, turns)
    sent = arguments.documents * arguments.clients
    rates = {one: Summary.of(sent / value for value in values) for one, values in seconds.items()}
    lines = []
    for one, rate in rates.items():
        share = ratios(seconds[BASELINE], seconds[one])
        line = [one, f"{rate.median:.1f}", f"{share.median:.1%} ({share.low:.1%}–{share.high:.1%})"]
        faster = [ratios(seconds[peer], seconds[one]) for peer in peers]
        lines.append([*line, *(f"{ratio.median:.2f} × ({ratio.low:.2f}–{ratio.high:.2f})" for ratio in faster)])
    about = {name: getattr(arguments, name) for name in ("documents", "clients", "rounds")}
    show(
        ("through", "docs/s", f"share of {BASELINE}", *(f"× {peer}" for peer in peers)),
        lines,
        about,
        arguments.markdown,
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"processor": processor_name(), **about, "seconds": seconds}, indent=2))


def ours(stack: ExitStack, folder: Path, query: str, documents: list[str], clients: int) -> dict[str, list[Run]]:
    """The engine in process, and every way through the server, one call per client."""
    asked = {"query": {"text": query}, "items": [{"text": document} for document in documents]}
    bodies = {JSON: msgspec.json.encode(asked), MSGPACK: msgspec.msgpack.encode(asked)}
    items = [Item(text=document) for document in documents]
    engine = stack.enter_context(in_process(Entry(MODEL, folder=folder)))
    server = stack.enter_context(ServerProcess("--model", f"{MODEL}={folder}", "--preload", MODEL))
    sdk = stack.enter_context(SIEClient(server.url))
    connections = [stack.enter_context(closing(Client(server.url, MODEL))) for _ in range(clients)]

    def raw(client: Client, kind: str) -> list[float]:
        decode = msgspec.json.decode if kind == JSON else msgspec.msgpack.decode
        return in_order(decode(client.score(bodies[kind], kind, kind).body))

    return {
        BASELINE: [lambda: engine.score(query, documents).scores] * clients,
        "sie HTTP, JSON": [partial(raw, client, JSON) for client in connections],
        "sie HTTP, MessagePack": [partial(raw, client, MSGPACK) for client in connections],
        "sie SDK": [lambda: in_order(sdk.score(MODEL, Item(text=query), items))] * clients,
    }


def theirs(
    stack: ExitStack, python: Path | None, folder: Path, query: str, documents: list[str], clients: int
) -> dict[str, list[Run]]:
    """infinity-emb's server in each precision; if it does not start, prints the reason."""
    if python is None or not has(python, "infinity_emb"):
        print("infinity-emb: skipped, " + ("no --infinity" if python is None else f"{python} has no infinity_emb"))
        return {}
    # It needs an older transformers, which does not know the name that a newer one gives this class.
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}))
    runs: dict[str, list[Run]] = {}
    for dtype in ("float32", "bfloat16"):
        try:
            address = stack.enter_context(infinity(python, folder, dtype))
        except RuntimeError as error:
            print(f"infinity-emb {dtype}: skipped, {error}")
            continue
        runs[f"infinity-emb {dtype}"] = [Reranking(address, query, documents)] * clients
    return runs


def at_once(pool: ThreadPoolExecutor, calls: Sequence[Run]) -> None:
    """Measure all candidates, interleaved."""
    for call in [pool.submit(call) for call in calls]:
        call.result()


def in_order(result: ScoreResult) -> list[float]:
    """Scores in the order of the documents."""
    scores = {entry["item_id"]: entry["score"] for entry in result["scores"]}
    return [scores[f"item-{i}"] for i in range(len(scores))]


def compare(scores: dict[str, list[float]]) -> None:
    """Raises SystemExit: a candidate computes something else."""
    reference = scores[BASELINE]
    spread = max(reference) - min(reference)
    for one, values in scores.items():
        deviation = max(abs(theirs - ours) for theirs, ours in zip(values, reference, strict=True)) / spread
        if not deviation <= ALLOWED:
            raise SystemExit(f"{one}: {deviation:.1e} of the spread of scores; not the same computation")


if __name__ == "__main__":
    main()
