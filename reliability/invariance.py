"""Invariance of scores, bit for bit, with all architectures in one server under full concurrency.

    .venv/bin/python reliability/invariance.py                                            # 5 minutes
    .venv/bin/python reliability/invariance.py --seconds 5 --documents 6 --only bert gemma    # one
    .venv/bin/python reliability/invariance.py --matrix --seconds 4 --documents 4           # an hour

Models: small checkpoints with random weights of every supported architecture and head, built by `sie_testing`,
and the embedded default. Every pair is scored alone; then many connections send requests of 1 to 100 documents to all
models at once. Embeddings are compared likewise. Then 240 pairs of the default and 240 of a cross-encoder are scored
alone, with one other document and with 19 (`pairs.py`). Any bit that differs is an error.

`--matrix` repeats this for each instruction set to which PyTorch, oneDNN, MKL and the kernels can be restricted,
without the kernels, and with one and two threads (`processors.py`). What this processor lacks is listed as skipped.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from expected_scores import ExpectedScores
from fault_report import table
from outcome_counts import OutcomeCounts, format_counts
from pairs import differing
from processors import Processor, processors
from traffic import Outcome, closed_loop, session
from workload import Workload, checkpoint_words, common_words, make_workload

from sie_testing.checkpoints import ARCHITECTURES, DECODERS, build, build_modular
from sie_testing.late_interaction_checkpoints import pylate, stanford
from sie_testing.serving import EMBEDDED, Server, end_cleanly

COLUMNS = (
    *("precision", "models", "pairs, differ", "requests", "scores compared", "texts embedded", "differ"),
    *("lost", "errors"),
)
PRECISIONS = ("float32", "bfloat16", "int8")
_LAYOUTS: dict[str, Callable[[Path], object]] = {
    "minilm-l12": lambda folder: build(folder, "minilm-l12", num_hidden_layers=4),
    "modular": lambda folder: build_modular(folder, "modernbert-encoder", "mean"),
    "stanford": stanford,
    "pylate": pylate,
}
_FEW = (EMBEDDED, "bert")  # late interaction, and a cross-encoder
EVERY = tuple({**ARCHITECTURES, **DECODERS, **_LAYOUTS})


class _Encoded(msgspec.Struct):
    items: list[msgspec.Raw]


def build_all(folder: Path, names: Sequence[str] = EVERY) -> list[str]:
    """Build these checkpoints; returns the flags that serve them."""
    for name in names:
        if name in _LAYOUTS:
            _LAYOUTS[name](folder / name)
        else:
            build(folder / name, name)
    return [f"--model={name}={folder / name}" for name in names]


class Encoders:
    """Compares embeddings with those of each text alone.

    workloads: with the outputs to ask each model for. compared: texts so far. differ: differences found.
    """

    def __init__(self, url: str, workloads: Mapping[Workload, Sequence[str]]) -> None:
        self.compared = 0
        self.differ: list[str] = []
        self._url = url
        self._workloads = workloads
        self._alone: dict[tuple[str, str], bytes] = {}

    async def learn(self) -> None:
        """Encode every text in a request of its own."""
        async with session() as client:
            for workload in self._workloads:
                for text in workload.documents:
                    [self._alone[workload.model, text]] = await self._encode(client, workload, [text])

    async def compare(self, connections: int, go_on: Callable[[], bool]) -> None:
        """Encode random texts on each connection while `go_on()`."""

        async def loop(client: aiohttp.ClientSession, number: int) -> None:
            rng = random.Random(number)
            while self._workloads and go_on():
                workload = rng.choice(list(self._workloads))
                texts = rng.choices(workload.documents, k=rng.choice((1, 5, 20)))
                for text, vectors in zip(texts, await self._encode(client, workload, texts), strict=True):
                    self.compared += 1
                    if vectors != self._alone[workload.model, text]:
                        self.differ.append(f"{workload.model}: vectors of {text[:30]!r}")

        async with session() as client, asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(loop(client, number))

    async def _encode(self, client: aiohttp.ClientSession, workload: Workload, texts: Sequence[str]) -> list[bytes]:
        body = {"items": [{"text": text} for text in texts], "params": {"output_types": self._workloads[workload]}}
        path, headers = f"{self._url}/v1/encode/{workload.model}", {"Accept": "application/json"}
        async with client.post(path, json=body, headers=headers) as answer:
            read = await answer.read()
            assert answer.status == 200, read[:500]
        return [bytes(item) for item in msgspec.json.decode(read, type=_Encoded).items]


def compare(server: Server, models: Sequence[str], documents: int, connections: int, seconds: float) -> dict[str, Any]:
    """Compare results of these models under concurrency, for `seconds`, with those of each input alone."""
    outputs = {model: _outputs(server.url, model) for model in models}
    workloads = [_workload(model, documents) for model in models]
    scoring = [workload for workload in workloads if "score" in outputs[workload.model]]
    embedding = {workload: [o for o in outputs[workload.model] if o != "score"] for workload in workloads}
    expected = ExpectedScores()
    expected.learn(server.url, scoring)
    encoders = Encoders(server.url, {workload: names for workload, names in embedding.items() if names})
    asyncio.run(encoders.learn())
    until = time.monotonic() + seconds

    async def at_once() -> list[Outcome]:
        go_on = lambda: time.monotonic() < until  # noqa: E731 # once for both
        scored, _ = await asyncio.gather(
            closed_loop(server.url, scoring, connections, go_on), encoders.compare(max(connections // 4, 1), go_on)
        )
        return scored

    counts = OutcomeCounts().count(asyncio.run(at_once()), expected)
    return {
        "models": len(models),
        "pairs": len(expected),
        "documents": counts.documents,
        "vectors": encoders.compared,
        "differ": counts.wrong + encoders.differ,
        **counts.figures,
    }


def compare_few(url: str, models: Sequence[str]) -> dict[str, Any]:
    """Compare some hundred pairs in three batch compositions (`pairs.py`)."""
    few = [differing(url, model, _text(model)) for model in models if model in _FEW]
    return {"few": sum(count for count, _ in few), "few differ": sum(differ for _, differ in few)}


def _workload(model: str, documents: int) -> Workload:
    return make_workload(model, 2, documents, seed=len(model), text=_text(model))


def _text(model: str) -> Callable[[random.Random, int], str]:
    return common_words if model == EMBEDDED else checkpoint_words


def _outputs(url: str, model: str) -> list[str]:
    """Outputs of a model, which are known before it is loaded."""
    with urllib.request.urlopen(f"{url}/v1/models/{model}", timeout=120) as answer:
        outputs: list[str] = json.load(answer)["outputs"]
    return outputs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=EVERY, default=EVERY, metavar="NAME", help="; ".join(EVERY))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--documents", type=int, default=30, help="in the pool of each model")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0, help="of full concurrency, per precision")
    parser.add_argument("--matrix", action="store_true", help="once per instruction set, see above")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    end_cleanly()

    rows: dict[str, dict[str, Any]] = {}
    skipped: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        flags = build_all(Path(folder), arguments.only)
        for processor in processors() if arguments.matrix else [Processor("", {}, (), None)]:
            refused = _refused(processor)
            for precision in arguments.precision:
                name = f"{precision} {processor.name}".strip()
                if precision in refused:
                    skipped.append(f"skipped: {name}: {refused[precision]}")
                    continue
                more = ("--preload", EMBEDDED, "--precision", precision, *processor.flags, *flags)
                with Server(*more, environment=processor.environment) as server:
                    models = [EMBEDDED, *arguments.only]
                    figures = compare(server, models, arguments.documents, arguments.connections, arguments.seconds)
                    rows[name] = figures | compare_few(server.url, models)
                if arguments.matrix:
                    print(" | ".join(row(name, rows[name])), flush=True)
    print(table(COLUMNS, (row(name, figures) for name, figures in rows.items())))
    print("\n".join(skipped))
    print("\n".join(difference for figures in rows.values() for difference in figures["differ"][:10]))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))
    return int(any(figures["few differ"] or figures["differ"] or figures["lost"] for figures in rows.values()))


def _refused(processor: Processor) -> dict[str, str]:
    """Precisions that are not supported on a processor, with the reasons."""
    if processor.lacks:
        return dict.fromkeys(PRECISIONS, f"this processor has no {processor.lacks}")
    tried = "import sys, torch; from sie_server.nn.precision import resolve_precision as resolve\n"
    tried += "for precision in sys.argv[1:]:\n    try: resolve(precision, torch.device('cpu'))\n"
    tried += "    except ValueError as error: print(precision, error)"
    environment = {**os.environ, **processor.environment}
    command = [sys.executable, "-c", tried, *PRECISIONS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def row(precision: str, figures: dict[str, Any]) -> tuple[str, ...]:
    """Row of a table with COLUMNS."""
    numbers = (f"{figures[name]:,}" for name in ("requests", "documents", "vectors"))
    return (
        precision,
        str(figures["models"]),
        f"{figures['few']}, {figures['few differ']}",
        *numbers,
        str(len(figures["differ"])),
        format_counts(Counter(figures["lost"])),
        format_counts(Counter(figures["errors"])),
    )


if __name__ == "__main__":
    sys.exit(main())
