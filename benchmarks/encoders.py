"""Embedding and late-interaction models of the catalogue compared with references: parity, batch invariance, speed.

    python benchmarks/encoders.py
    python benchmarks/encoders.py --only e5-small bge-m3 --rounds 3 --markdown

One row per model and output. The catalogue's entry is what is loaded; the checkpoint has the layout and the widths of
the published one, random weights and, where that is too large for a short run, fewer layers, as the table says.
all-MiniLM-L6-v2 has its real weights. Tokenizers are the published ones, with the markers that late interaction adds,
as far as they are under `--tokenizers`; a model whose own is not there gets one of words, and a star behind its name.

Documents have 20 to 399 words of the vocabulary and punctuation (log-normal), queries 3 to 20; neither stands in a
template. Late interaction cuts and marks them as the checkpoint says.

The reference is float32, in padded batches of 32, longest first, with torch's default threads. Ours is a whole request
through the engine. Tokenization is included on both sides. A round runs each candidate once, in turning order; a ratio
is taken per round.

Δ is the largest difference of a component, a weight or a score; the cosine is that of the vector, a text's or a
token's, that lies farthest from the reference's. Same bits: each text alone and all in one request, in both precisions.
Ends with 1 where float32 differs by more than 1e-5 (sums over tokens, sparse weights: 1e-4), or where bits differ.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from architectures import OURS, REFERENCE
from encoder_checkpoints import Builder, Built, vocabularies
from encoder_rows import ROWS, Row, Task
from in_process import Ours, lengths, serving
from numpy.typing import NDArray
from references import Embedder
from tables import Steps, each, show, times, versions, why
from tokenizers import Tokenizer

from sie_server.catalog.catalog import shipped
from sie_server.cli.bench.figures import Summary
from sie_testing.rounds import interleave, ratios

COLUMNS = (
    "model",
    "output",
    "reference",
    "max |Δ| float32",
    "max |Δ| {auto}",
    "1 − cosine {auto}",
    "same bits",
    "auto × reference",
    "float32 × reference",
    "reference: texts/s",
)


@dataclass(frozen=True)
class Result:
    """Results of a row. By precision: `delta`, `cosine` (1 minus it; None for scores) and `invariant`.

    spread: of the reference's scores; None of an embedding. seconds: by candidate and round.
    """

    title: str
    output: str
    reference: str
    tolerance: float
    spread: float | None
    delta: dict[str, float]
    cosine: dict[str, float | None]
    invariant: dict[str, bool]
    texts: int
    seconds: dict[str, list[float]]

    def ratio(self, precision: str) -> Summary:
        """Speed relative to the reference."""
        return ratios(self.seconds[REFERENCE], self.seconds[precision])

    def faults(self) -> list[str]:
        """Failed conditions."""
        faults = [f"bits depend on the batch in {precision}" for precision, same in self.invariant.items() if not same]
        if not self.delta["float32"] <= self.tolerance:
            faults.append(f"float32 differs by {self.delta['float32']:.1e}, more than {self.tolerance:.0e}")
        return faults

    def cells(self) -> list[str]:
        share = "" if self.spread is None else f" ({self.delta['auto'] / self.spread:.1%})"
        cosine = self.cosine["auto"]
        return [
            self.title,
            self.output,
            self.reference,
            f"{self.delta['float32']:.1e}",
            f"{self.delta['auto']:.1e}{share}",
            "" if cosine is None else f"{cosine:.1e}",
            "yes" if all(self.invariant.values()) else "no",
            *(times(self.ratio(precision)) for precision in OURS),
            f"{self.texts / Summary.of(self.seconds[REFERENCE]).median:,.1f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--documents", type=int, default=32, help="and as many queries")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokenizers", type=Path, default=Path("../shared/data/tokenizers"))
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--markdown", action="store_true", help="print a markdown table")
    arguments = parser.parse_args()

    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()  # that padding apart from tokenizing is slower, in every batch
    known = vocabularies(arguments.tokenizers)

    def row(name: str, steps: Steps) -> list[Result]:
        chosen = ROWS[name]
        vocabulary = known.get(chosen.vocabulary)
        title = f"{chosen.model}{'' if vocabulary else '*'}{chosen.note}"
        with tempfile.TemporaryDirectory() as folder:
            built = chosen.build(Builder(Path(folder), vocabulary, chosen.sizes))
            return measure(chosen, title, built, arguments.documents, arguments.rounds, steps)

    report(each(arguments.only, row), arguments)


def measure(row: Row, title: str, built: Built, count: int, rounds: int, steps: Steps) -> list[Result]:
    """Compare all outputs, which is also the warm-up, then measure."""
    entry = replace(shipped()[row.model], folder=built.folder)
    queries, documents = texts(built.folder, count)
    results = []
    with ExitStack() as engines:
        ours = {
            precision: engines.enter_context(serving(entry, precision=precision, device="cpu")) for precision in OURS
        }
        for name, task in row.tasks.items():
            given = queries if task.is_query else documents
            reference = partial(theirs, built.reference, task, queries[0])
            candidates = {precision: partial(asked, engine, task, queries[0]) for precision, engine in ours.items()}
            expected = reference(given)
            got = {precision: candidate(given) for precision, candidate in candidates.items()}
            alone = {
                precision: [candidate([text])[0] for text in steps(f"{name}: each alone, {precision}", given)]
                for precision, candidate in candidates.items()
            }
            timed = {key: partial(run, given) for key, run in {REFERENCE: reference, **candidates}.items()}
            deltas = {precision: compare(values, expected) for precision, values in got.items()}
            results.append(
                Result(
                    title=title,
                    output=name,
                    reference=built.reference.name,
                    tolerance=task.tolerance,
                    spread=max(expected) - min(expected) if task.output == "score" else None,
                    delta={precision: delta for precision, (delta, _) in deltas.items()},
                    cosine={precision: cosine for precision, (_, cosine) in deltas.items()},
                    invariant={precision: bits(values) == bits(alone[precision]) for precision, values in got.items()},
                    texts=len(given),
                    seconds=interleave(timed, steps(f"{name}: rounds", range(rounds))),
                )
            )
    return results


def asked(engine: Ours, task: Task, query: str, given: list[str]) -> list[Any]:
    if task.output == "score":
        return engine.score(query, given, task.mode).scores
    return engine.encode(given, task.output, task.is_query)


def theirs(reference: Embedder, task: Task, query: str, given: list[str]) -> list[Any]:
    if task.output == "score":
        return reference.score(query, given, task.mode)
    return reference.encode(given, task.output, task.is_query)


def texts(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Queries and documents of words that are one token each, mostly, with commas and stops.

    The words are few, so that a query shares some with a document.
    """
    rng = random.Random(1)
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    front = next((mark for mark in "▁Ġ" if f"{mark}the" in vocabulary), "")
    known = sorted(
        word
        for token in vocabulary
        if token.startswith(front) and len(word := token.removeprefix(front)) > 1 and word.isascii() and word.isalnum()
    )
    words = rng.sample(known, 400)

    def text(length: int) -> str:
        marks = ["", "", "", "", "", "", ",", "."]
        return " ".join(word + rng.choice(marks) for word in rng.choices(words, k=length))

    documents = [text(length - 12) for length in lengths(rng, count)]
    return [text(rng.randint(3, 20)) for _ in range(count)], documents


def compare(values: Sequence[Any], expected: Sequence[Any]) -> tuple[float, float | None]:
    """The largest difference, and how far the cosine of the farthest vector is from one; None for scores.

    Raises:
        ValueError: an embedding has another shape, or all are the same.
    """
    pairs = [_aligned(*pair) for pair in zip(values, expected, strict=True)]
    for got, wanted in pairs:
        if got.shape != wanted.shape:
            raise ValueError(f"an embedding of shape {got.shape}; the reference's has {wanted.shape}")
    if all(np.array_equal(wanted, pairs[0][1]) for _, wanted in pairs):
        raise ValueError("what does not differ between texts proves nothing")
    delta = float(max(np.abs(got - wanted).max(initial=0) for got, wanted in pairs))
    if not pairs[0][0].ndim:
        return delta, None
    rows = chain.from_iterable(zip(np.atleast_2d(got), np.atleast_2d(wanted), strict=True) for got, wanted in pairs)
    return delta, max(1 - float(a @ b / np.sqrt((a @ a) * (b @ b))) for a, b in rows if a.any() or b.any())


def bits(values: Sequence[Any]) -> list[list[bytes]]:
    return [[np.asarray(part).tobytes() for part in (one if isinstance(one, tuple) else (one,))] for one in values]


def _aligned(one: Any, other: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In double precision; of two sparse vectors, the weights of all tokens that either has."""
    if not isinstance(one, tuple):
        return np.asarray(one, np.float64), np.asarray(other, np.float64)
    tokens = np.union1d(one[0], other[0])
    weights = np.zeros((2, len(tokens)))
    for row, (ids, values) in zip(weights, (one, other), strict=True):
        row[np.searchsorted(tokens, ids)] = values
    return weights[0], weights[1]


def report(results: dict[str, list[Result] | Exception], arguments: argparse.Namespace) -> None:
    """Print the table, for a terminal or in Markdown, and write it as JSON. Exits with 1 if a row failed."""
    measured = [result for rows in results.values() if isinstance(rows, list) for result in rows]
    about = {**versions(), "texts": arguments.documents, "rounds": arguments.rounds}
    show(COLUMNS, [result.cells() for result in measured], about, arguments.markdown)
    failed = [f"not measured: {name}: {why(rows)}" for name, rows in results.items() if isinstance(rows, Exception)]
    failed += [f"{result.title}, {result.output}: {fault}" for result in measured for fault in result.faults()]
    print("".join(f"\n{reason}" for reason in failed))
    if arguments.json:
        figures = [
            {**asdict(result), "ratio": {precision: asdict(result.ratio(precision)) for precision in OURS}}
            for result in measured
        ]
        arguments.json.write_text(json.dumps({**about, "results": figures, "failed": failed}, indent=2))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
