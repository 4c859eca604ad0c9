"""Savings of decoders by computing the shared prefix of prompts once, in tokens and time.

    python benchmarks/prefix.py

One query of 8 words and 100 documents, log-normal around the given means, through Qwen3 at the widths of
Qwen3-Reranker-0.6B (6 of 28 layers, random weights, a vocabulary of words; the prompt is within 5 tokens of what the
real tokenizer makes of it). Both candidates go through the same engine and tokenizer; without sharing, each document's
whole prompt is a sequence of its own. A round runs each once, in turning order; a ratio is taken per round.

The expected saving is in tokens, with the front computed once. The computed one counts what went through the layers:
threads that start at the same time each compute the front.
"""

import argparse
import asyncio
import json
import math
import random
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from architectures import ROWS
from in_process import TIMEOUT_S, Ours, lengths, serving
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sie_server.catalog.catalog import Entry
from sie_server.cli.bench.figures import Summary
from sie_server.engine.request import Request
from sie_server.machine.processor import processor_name
from sie_server.tokenization.sequence import Sequence
from sie_testing import checkpoints
from sie_testing.rounds import interleave

MEANS = (40, 140)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    transformers.logging.disable_progress_bar()
    row = ROWS["qwen3"]
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.build(Path(folder), row.checkpoint, **row.sizes)
        entry = Entry("model", folder=Path(folder), score="logit", max_length=1024)
        with serving(entry, precision=arguments.precision, device="cpu") as engine:
            figures = [measure(engine, mean, arguments) for mean in MEANS]
            precision = str(engine.model.dtype).removeprefix("torch.")
    report(figures, f"{row.title}, {precision}, {arguments.documents} documents, {arguments.rounds} rounds", arguments)


def measure(engine: Ours, mean: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure documents of `mean` tokens."""
    tokens = lengths(random.Random(1), arguments.documents, log_mean=math.log(mean) - 0.125, shortest=1)
    query, documents = checkpoints.text(8, seed=0), [checkpoints.text(n, seed) for seed, n in enumerate(tokens, 1)]
    candidates: dict[str, Callable[[], list[float]]] = {
        "shared": lambda: run(engine, pairs(engine, query, documents)),
        "whole": lambda: run(engine, [whole(sequence) for sequence in pairs(engine, query, documents)]),
    }
    computed: list[int] = []
    hook = engine.model.encoder.register_forward_pre_hook(lambda _, inputs: computed.append(len(inputs[0].ids)))
    scores, through_layers = {}, {}
    for name, candidate in candidates.items():
        computed.clear()
        scores[name] = candidate()
        through_layers[name] = sum(computed)
    hook.remove()
    sequences = pairs(engine, query, documents)
    front, own = len(sequences[0].prefix or ()), sum(map(len, sequences))
    rounds = track(range(arguments.rounds), description=f"documents of {mean}", console=Console(stderr=True))
    seconds = interleave(candidates, rounds)
    saved = Summary.of(1 - shared / whole for shared, whole in zip(*seconds.values(), strict=True))
    return {
        "mean": mean,
        "front": front,
        "expected": 1 - (front + own) / (front * len(sequences) + own),
        "tokens": through_layers,
        "delta": max(abs(shared - whole) for shared, whole in zip(*scores.values(), strict=True)),
        "spread": max(scores["whole"]) - min(scores["whole"]),
        "seconds": seconds,
        "saved": asdict(saved),
    }


def pairs(engine: Ours, query: str, documents: list[str]) -> list[Sequence]:
    """Sequences with a prefix that has not been computed yet."""
    return engine.model.tokenizer.encode_pairs(query, documents)


def whole(sequence: Sequence) -> Sequence:
    """The same prompt without a prefix."""
    assert sequence.prefix is not None
    front = sequence.prefix.sequence
    return Sequence(
        np.concatenate((front.ids, sequence.ids)),
        np.concatenate((front.type_ids, sequence.type_ids)),
        document=sequence.document,
    )


def run(engine: Ours, sequences: list[Sequence]) -> list[float]:
    """One request of these sequences, queued as the engine queues its own."""

    async def scores() -> list[float]:
        head = engine.model.encoder.head
        assert head is not None
        request = Request(engine.model, head, sequences, asyncio.get_running_loop().create_future())
        engine.running.engine.scheduler.add(request)
        return await request.future

    return engine.running.run(scores(), TIMEOUT_S)


def report(figures: list[dict[str, Any]], title: str, arguments: argparse.Namespace) -> None:
    """Print a table, and write it as JSON."""
    columns = ("documents", "front", "tokens whole", "shared", "expected saving", "computed", "time saved", "max |Δ|")
    table = Table(*columns, title=title)
    for row in figures:
        saved = Summary(*row["saved"].values())
        table.add_row(
            f"~{row['mean']} tokens",
            str(row["front"]),
            f"{row['tokens']['whole']:,}",
            f"{row['tokens']['shared']:,}",
            f"{row['expected']:.1%}",
            f"{1 - row['tokens']['shared'] / row['tokens']['whole']:.1%}",
            f"{saved.median:.1%} ({saved.low:.1%} to {saved.high:.1%})",
            f"{row['delta']:.1e} ({row['delta'] / row['spread']:.1g} of the spread)",
        )
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
    if arguments.json:
        machine = {"processor": processor_name(), "torch": torch.__version__, "title": title}
        arguments.json.write_text(json.dumps({**machine, "results": figures}, indent=2))


if __name__ == "__main__":
    main()
