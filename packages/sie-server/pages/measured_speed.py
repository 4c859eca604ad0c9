"""Tables of measured speed, from the figures in benchmarks/results."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

_RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
_PROCESSORS = {"intel-xeon-amx": "Intel Xeon with AMX", "amd-zen4": "AMD Zen 4"}
# `auto` was bfloat16 on each of these processors.
_PRECISIONS = {"float32": "float32", "auto": "bfloat16", "int8": "int8"}

# 100 candidates of 150 tokens each.
SEARCH_TOKENS = 15_000


@dataclass(frozen=True)
class Architecture:
    """An architecture of the benchmarks. layers: of the published model, of which fewer may have been measured."""

    name: str
    size: str
    layers: int


_ARCHITECTURES = {
    "minilm-l12": Architecture("MiniLM-L-12", "small", 12),
    "modernbert-base": Architecture("ModernBERT-base", "base", 22),
    "xlm-r-large": Architecture("XLM-R-large", "large", 24),
}


@dataclass(frozen=True)
class Measurement:
    """One precision in one run of `benchmarks/engine.py`.

    documents_per_s, tokens_per_s: medians of the rounds. ratios: of documents per second to those of a peer, by its
    name, medians of the ratios within each round.
    """

    processor: str
    architecture: Architecture
    layers: int
    documents: int
    precision: str
    documents_per_s: float
    tokens_per_s: float
    ratios: dict[str, float]

    @property
    def where(self) -> str:
        """The processor, the model and the size of the request."""
        part = (
            "" if self.layers == self.architecture.layers else f" ({self.layers} of {self.architecture.layers} layers)"
        )
        return f"{self.processor}: {self.architecture.name}{part}, {self.documents} documents"


def measurements() -> Iterator[Measurement]:
    """All measurements of the engine, a processor and a model after the other."""
    for folder, processor in _PROCESSORS.items():
        for name, architecture in _ARCHITECTURES.items():
            if (path := _RESULTS / folder / f"engine-{name}.json").exists():
                yield from _run(processor, architecture, json.loads(path.read_text()))


def _run(processor: str, architecture: Architecture, run: dict[str, Any]) -> Iterator[Measurement]:
    # Such as "xlm-r-large, 4 layers, 40 documents".
    _, layers, documents = run["title"].split(", ")
    candidates = run["results"]
    for setting, precision in _PRECISIONS.items():
        own = candidates[f"sie {setting}"]
        yield Measurement(
            processor=processor,
            architecture=architecture,
            layers=architecture.layers if layers == "all layers" else int(layers.split()[0]),
            documents=int(documents.split()[0]),
            precision=precision,
            documents_per_s=own["documents_per_s"]["median"],
            tokens_per_s=own["tokens_per_s"]["median"],
            ratios={
                peer: median(theirs / ours for theirs, ours in zip(result["seconds"], own["seconds"], strict=True))
                for peer, result in candidates.items()
                if not peer.startswith("sie ")
            },
        )


def ratios() -> str:
    """A row per measurement, with the ratios to each peer: in the same precision first."""
    rows = ["| | Precision | × OpenVINO | × sentence-transformers | × sentence-transformers in float32 |"]
    rows.append("|---|---|---|---|---|")
    for each in measurements():
        peers = (f"OpenVINO {each.precision}", f"ST {each.precision}", "ST float32")
        cells = (f"{each.ratios[peer]:.1f}" if peer in each.ratios else "–" for peer in peers)
        rows.append(f"| {each.where} | {each.precision} | {' | '.join(cells)} |")
    return "\n".join(rows)


def summary() -> str:
    """A row per model and processor, with the ratios to each peer in the same precision."""
    rows = [
        "| The same precision on both sides, documents per second | × OpenVINO: float32 / bfloat16 / int8 "
        "| × sentence-transformers: float32 / bfloat16 |",
        "|---|---|---|",
    ]
    for where, run in _by_run().items():
        peers = ("OpenVINO", "ST")
        cells = (
            " / ".join(
                f"{each.ratios[name]:.1f}" for each in run if (name := f"{peer} {each.precision}") in each.ratios
            )
            for peer in peers
        )
        rows.append(f"| {where} | {' | '.join(cells)} |")
    return "\n".join(rows)


def rates() -> str:
    """A row per model and processor: tokens per second in each precision, and seconds for a search.

    A model that was measured with some of its layers takes longer in proportion to the rest.
    """
    lines = [f"| Size | Measured | {' | '.join(_PRECISIONS.values())} |", "|---|---|---|---|---|"]
    for where, run in _by_run().items():
        about = "" if run[0].layers == run[0].architecture.layers else "≈ "
        cells = []
        for each in run:
            rate = each.tokens_per_s * each.layers / each.architecture.layers
            cells.append(f"{about}{rate:,.0f} ({SEARCH_TOKENS / rate:.1f} s)")
        lines.append(f"| {run[0].architecture.size} | {where} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_run() -> dict[str, list[Measurement]]:
    runs: dict[str, list[Measurement]] = {}
    for each in measurements():
        runs.setdefault(each.where, []).append(each)
    return runs
