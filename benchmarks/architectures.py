"""All supported architectures compared with their references: scores, batch invariance, tokens per second.

    python benchmarks/architectures.py
    python benchmarks/architectures.py --only bert qwen3 --rounds 3 --markdown

One query of 8 words and documents of 20 to 399 (log-normal: pairs of 32 to 411 tokens, mean about 140, before a
decoder's prompt). Checkpoints have random weights, the widths of real ones, a vocabulary of words and, where the real
model is too large for a short run, fewer layers, as the table says. Prompts are within 5 tokens of what the real
tokenizers make of them.

The reference is float32, in padded batches of 32, longest first, with torch's default threads; decoders compute logits
of the last token only. Ours is a whole request through the engine. Tokenization is included on both sides. A round
runs each candidate once, in turning order; a ratio is taken per round. Tokens are those of the pairs without padding,
prompts included, also where we compute what documents share only once: a ratio is one of documents per second as well.

Scores are raw logits; their spread is that of the reference's, and the share in brackets is of it. Batch-invariant:
each document alone and all in one request have the same bits.
"""

import argparse
import json
import random
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from in_process import lengths, serving
from references import Reference, SentenceTransformers, Transformers
from sentence_transformers import CrossEncoder
from tables import Steps, each, show, times, versions, why

from sie_server.catalog.catalog import Entry
from sie_server.cli.bench.figures import Summary
from sie_testing import checkpoints
from sie_testing.rounds import interleave, ratios

REFERENCE = "reference"
OURS = ("auto", "float32")
COLUMNS = (
    "architecture",
    "reference",
    "max |Δ| float32",
    "max |Δ| {auto}",
    "batch-invariant",
    "auto: tokens/s, × reference",
    "float32: tokens/s, × reference",
    "reference: tokens/s",
)


@dataclass(frozen=True)
class Row:
    """A checkpoint of the tests' table at other sizes. modular: has a head of sentence-transformers modules."""

    title: str
    checkpoint: str
    sizes: dict[str, Any] = field(default_factory=dict)
    modular: bool = False


def sizes(hidden: int, layers: int, heads: int, inner: int, **others: Any) -> dict[str, Any]:
    """Config keys that make the weights' products keep the scale of their inputs, as trained weights nearly do."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "initializer_range": hidden**-0.5,
        **others,
    }


_BASE = sizes(768, 6, 12, 3072)
_DISTILBERT = {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "initializer_range": 768**-0.5}
# NTK scaling by 8 at a base of 20000, as transformers writes it for heads of 64.
_NTK = {"rope_type": "linear", "rope_theta": 160_000.0, "factor": 8 ** (2 / 64)}
QWEN3 = sizes(1024, 6, 16, 3072, num_key_value_heads=8, head_dim=128)

ROWS = {
    "bert": Row("BERT (ms-marco-MiniLM-L-12-v2)", "minilm-l12", {"initializer_range": 384**-0.5}),
    "roberta": Row("RoBERTa (base, 6 of 12 layers)", "roberta", _BASE),
    "xlm-roberta": Row("XLM-RoBERTa (base, 6 of 12 layers)", "xlm-roberta", _BASE),
    "electra": Row("ELECTRA (base, 6 of 12 layers)", "electra", {**_BASE, "embedding_size": 768}),
    "distilbert": Row("DistilBERT (base, 6 layers)", "distilbert", _DISTILBERT),
    "mpnet": Row("MPNet (base, 6 of 12 layers)", "mpnet", _BASE),
    "deberta": Row("DeBERTa (v3 base, 6 of 12 layers)", "deberta", {**_BASE, "position_buckets": 256}),
    "modernbert": Row("ModernBERT (base, 8 of 22 layers)", "modernbert", sizes(768, 8, 12, 1152, local_attention=128)),
    "ettin": Row(
        "ModernBERT + modules (ettin-reranker-32m, 10 layers)",
        "modernbert-encoder",
        sizes(384, 10, 6, 576, local_attention=128),
        modular=True,
    ),
    "gte": Row("mGTE (multilingual base, 6 of 12 layers)", "gte", {**_BASE, "rope_parameters": _NTK}),
    "qwen3": Row("Qwen3 (Reranker-0.6B, 6 of 28 layers)", "qwen3", QWEN3),
    "qwen2": Row("Qwen2 (mxbai-rerank-base-v2, 6 of 24 layers)", "qwen2", sizes(896, 6, 14, 4864)),
    "gemma": Row("Gemma (bge-reranker-v2-gemma, 2 of 18 layers)", "gemma", sizes(2048, 2, 8, 16384, head_dim=256)),
}


@dataclass(frozen=True)
class Result:
    """Results of a row. By precision: `delta`, largest difference of a score, and `invariant`. seconds: per round."""

    title: str
    reference: str
    tokens: int
    spread: float
    delta: dict[str, float]
    invariant: dict[str, bool]
    seconds: dict[str, list[float]]

    def rate(self, candidate: str) -> float:
        """Median tokens per second."""
        return self.tokens / Summary.of(self.seconds[candidate]).median

    def ratio(self, precision: str) -> Summary:
        """Speed relative to the reference."""
        return ratios(self.seconds[REFERENCE], self.seconds[precision])

    def cells(self) -> list[str]:
        differs = [precision for precision, same in self.invariant.items() if not same]
        return [
            self.title,
            self.reference,
            f"{self.delta['float32']:.1e}",
            f"{self.delta['auto']:.1e} ({self.delta['auto'] / self.spread:.1%})",
            f"no: {', '.join(differs)}" if differs else "yes",
            *(f"{self.rate(p):,.0f}\n{times(self.ratio(p))}" for p in OURS),
            f"{self.rate(REFERENCE):,.0f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--markdown", action="store_true", help="print a markdown table")
    arguments = parser.parse_args()

    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()  # that padding apart from tokenizing is slower, in every batch
    query = checkpoints.text(8, seed=0)
    tokens = lengths(random.Random(1), arguments.documents)
    documents = [checkpoints.text(pair - 12, seed) for seed, pair in enumerate(tokens, 1)]

    def row(name: str, steps: Steps) -> Result:
        with tempfile.TemporaryDirectory() as folder:
            return measure(ROWS[name], Path(folder), query, documents, arguments.rounds, steps)

    results = each(arguments.only, row)
    report(results, arguments)


def measure(row: Row, folder: Path, query: str, documents: list[str], rounds: int, steps: Steps) -> Result:
    """Compare scores, which warms everything up, then measure."""
    model = (
        checkpoints.build_modular(folder, row.checkpoint, "cls", **row.sizes)
        if row.modular
        else checkpoints.build(folder, row.checkpoint, **row.sizes)
    )
    # Longer than the tokenizer's limit, for a decoder's prompt; what a model's positions do not allow is not asked.
    entry = Entry("model", folder=folder, score="logit", max_length=1024)
    with ExitStack() as engines:
        ours = {
            precision: engines.enter_context(serving(entry, precision=precision, device="cpu")) for precision in OURS
        }
        reference: Reference = (
            SentenceTransformers(model)
            if isinstance(model, CrossEncoder)
            else Transformers(model, folder, ours["auto"].model.entry.prompt)
        )
        expected = reference.score(query, documents)
        scored = {precision: engine.score(query, documents) for precision, engine in ours.items()}
        alone = {
            precision: [
                engine.score(query, [document]).scores[0]
                for document in steps(f"each document alone, {precision}", documents)
            ]
            for precision, engine in ours.items()
        }
        candidates = {precision: partial(engine.score, query, documents) for precision, engine in ours.items()}
        seconds = interleave(
            {REFERENCE: partial(reference.score, query, documents), **candidates},
            steps("rounds", range(rounds)),
        )
    return Result(
        title=row.title,
        reference=reference.name,
        tokens=sum(scored["float32"].lengths),
        spread=max(expected) - min(expected),
        delta={precision: _delta(scores.scores, expected) for precision, scores in scored.items()},
        invariant={precision: scores.scores == alone[precision] for precision, scores in scored.items()},
        seconds=seconds,
    )


def report(results: dict[str, Result | Exception], arguments: argparse.Namespace) -> None:
    """Print the table, for a terminal or in Markdown, and write it as JSON. Exits with 1 if a row failed."""
    lines = [result.cells() for result in results.values() if isinstance(result, Result)]
    failed = [f"{ROWS[name].title}: {why(error)}" for name, error in results.items() if isinstance(error, Exception)]
    about = {**versions(), "documents": arguments.documents, "rounds": arguments.rounds}
    show(COLUMNS, lines, about, arguments.markdown)
    for reason in failed:
        print(f"\nnot measured: {reason}")
    if arguments.json:
        figures = {name: _figures(result) for name, result in results.items()}
        arguments.json.write_text(json.dumps({**about, "results": figures}, indent=2))
    if failed:
        raise SystemExit(1)


def _figures(result: Result | Exception) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"failed": why(result)}
    derived = {
        "tokens_per_s": {candidate: result.rate(candidate) for candidate in result.seconds},
        "ratio": {precision: asdict(result.ratio(precision)) for precision in OURS},
    }
    return {**asdict(result), **derived}


def _delta(scores: list[float], expected: list[float]) -> float:
    return max(abs(ours - theirs) for ours, theirs in zip(scores, expected, strict=True))


if __name__ == "__main__":
    main()
