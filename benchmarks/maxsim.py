"""MaxSim in the client: ours, a plain loop and, if installed, maxsim-cpu.

    python benchmarks/maxsim.py

1,000 documents of 200 tokens and 128 dimensions, unit vectors, ranked for a query of 32 tokens. In one run, in turning
order: ours, numpy's product and maxima document by document, and maxsim-cpu (`pip install maxsim-cpu`), which takes
float32 only; what it and the loop need cast is cast inside the timing. The peak is the rate of numpy's product of two
float32 matrices of 2,048 × 2,048 in the same round, and `product alone` the product ours consists of, without maxima:
with 32 columns it is far from the peak. All scores are compared with those in float64 first.
"""

import argparse
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sie_sdk.scoring import maxsim, maxsim_batch
from sie_server.cli.bench.figures import Summary
from sie_server.machine.processor import processor_name
from sie_testing.rounds import interleave, ratios

Array = NDArray[Any]

TOKENS, DIM, QUERY_TOKENS, QUERIES = 200, 128, 32, 8
PEAK = 2048
REST_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    rng = np.random.default_rng(1)
    stacked = unit(rng, (arguments.documents, TOKENS, DIM))
    documents = list(stacked)
    tokens = np.clip(rng.lognormal(np.log(TOKENS) - 0.125, 0.5, arguments.documents), 8, 1024).astype(int)
    query, queries = unit(rng, (1, QUERY_TOKENS, DIM)), unit(rng, (QUERIES, QUERY_TOKENS, DIM))
    cases: dict[str, tuple[Array, Array | list[Array]]] = {
        "float32, one 3-D array": (query, stacked),
        "float32, a list": (query, documents),
        "float16, a list": (query, [document.astype(np.float16) for document in documents]),
        "int8, a list": (query, [np.rint(127 * document).astype(np.int8) for document in documents]),
        "float32, ragged list": (query, [unit(rng, (length, DIM)) for length in tokens]),
        f"float32, 3-D, {QUERIES} queries": (queries, stacked),
    }
    figures = [measure(name, *case, rounds=arguments.rounds) for name, case in cases.items()]
    report(figures, f"MaxSim, {arguments.documents} documents, {arguments.rounds} rounds", arguments.json)


def unit(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random vectors of length 1, float32."""
    vectors = rng.standard_normal(shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors


def measure(name: str, queries: Array, documents: Array | list[Array], rounds: int) -> dict[str, Any]:
    """Measure one kind of input."""
    square = np.random.default_rng(0).standard_normal((PEAK, PEAK), np.float32)
    rows = np.concatenate(list(documents)).astype(np.float32)
    columns = queries.reshape(-1, DIM).T
    candidates = {"ours": lambda: ours(queries, documents), "plain loop": lambda: plain(queries, documents)}
    if importlib.util.find_spec("maxsim_cpu"):
        candidates["maxsim-cpu"] = lambda: maxsim_cpu(queries, documents)
    deltas = compare(candidates, queries, documents)
    timed = {**candidates, "product alone": lambda: rows @ columns, "peak": lambda: square @ square}
    console = Console(stderr=True)
    seconds = interleave(timed, track(range(rounds), description=name, console=console), rest=REST_S)
    work, peak = 2 * rows.size * columns.shape[1], 2 * PEAK**3
    share = {
        one: Summary.of(work / own * top / peak for own, top in zip(seconds[one], seconds["peak"], strict=True))
        for one in (*candidates, "product alone")
    }
    return {
        "case": name,
        "seconds": seconds,
        "delta": deltas,
        "share_of_peak": {one: asdict(summary) for one, summary in share.items()},
        "times_ours": {one: asdict(ratios(seconds[one], seconds["ours"])) for one in candidates},
        "peak_gflops": peak / Summary.of(seconds["peak"]).median / 1e9,
    }


def ours(queries: Array, documents: Array | list[Array]) -> Array:
    """Scores `[queries, documents]`, as for the other candidates."""
    return np.array([maxsim(queries[0], documents)]) if len(queries) == 1 else maxsim_batch(queries, documents)


def plain(queries: Array, documents: Array | list[Array], dtype: type = np.float32) -> Array:
    """Compute the formula one document at a time."""
    return np.array(
        [
            [(query @ document.astype(dtype, copy=False).T).max(axis=1).sum() for document in documents]
            for query in queries
        ]
    )


def maxsim_cpu(queries: Array, documents: Array | list[Array]) -> Array:
    import maxsim_cpu as package

    if isinstance(documents, np.ndarray):
        return np.array([package.maxsim_scores(query, documents) for query in queries])
    single = [document.astype(np.float32, copy=False) for document in documents]
    return np.array([package.maxsim_scores_variable(query, single) for query in queries])


def compare(
    candidates: Mapping[str, Callable[[], Array]], queries: Array, documents: Array | list[Array]
) -> dict[str, float]:
    """The largest difference of each candidate from float64, as a share of the largest score."""
    expected = plain(queries.astype(np.float64), documents, np.float64)
    deltas = {name: float(abs(run() - expected).max() / abs(expected).max()) for name, run in candidates.items()}
    assert max(deltas.values()) < 1e-5, deltas
    return deltas


def report(figures: list[dict[str, Any]], title: str, file: Path | None) -> None:
    """Print a table, and write it as JSON."""
    table = Table("input", "candidate", "ms", "share of peak", "× ours' time", "max |Δ|", title=title)
    for row in figures:
        for name, share in row["share_of_peak"].items():
            times = row["times_ours"].get(name)
            table.add_row(
                row["case"] if name == "ours" else "",
                name,
                f"{Summary.of(row['seconds'][name]).median * 1e3:.1f}",
                f"{share['median']:.0%} ({share['low']:.0%}–{share['high']:.0%})",
                f"{times['median']:.2f} ({times['low']:.2f}–{times['high']:.2f})" if times else "",
                f"{row['delta'][name]:.0e}" if times else "",
            )
        table.add_section()
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)
    if "maxsim-cpu" not in figures[0]["delta"]:
        console.print("maxsim-cpu is not installed and was left out.")
    if file:
        machine = {"processor": processor_name(), "numpy": np.__version__, "title": title}
        file.write_text(json.dumps({**machine, "results": figures}, indent=2))


if __name__ == "__main__":
    main()
