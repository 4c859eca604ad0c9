"""Ranking quality, measured through a running server with the Python SDK.

    python benchmarks/quality.py                                                   # starts a server
    python benchmarks/quality.py --url http://host:8080                            # asks one that runs
    python benchmarks/quality.py --what rerank --precision bfloat16 float32        # one server after the other
    python benchmarks/quality.py --what xquad --languages en de --markdown

rerank: TREC DL 2019 passages, BM25's top 100 of the 43 judged queries, by the server's `score` and by what a client
computes from embeddings: dot products of dense ones, MaxSim of multivectors. retrieval: dense embeddings of the whole
collection, alone and with MaxSim over their top 100. The collection is the union of five systems' top 100s, 10,852
passages, so this is easier than retrieval from the 8.8 million of MS MARCO. xquad: from a question to the one of 240
paragraphs that it was asked about. storage: the same with embeddings asked for in fewer bits.

In all of them queries stay float32: a query is encoded when it is asked, only documents are stored. nDCG@10 has linear
gain, RR@10 counts grades of 2 and more, as trec_eval computes them.
"""

import argparse
import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from collection import Collection, Mask, Scores, among, ranked, top
from embeddings import FLOAT32, READINGS, Embedder, Reading, Stored
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sie_sdk import SIEClient
from sie_server.cli.bench.server_process import ServerProcess
from sie_server.machine.processor import processor_name

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
WHAT = ("rerank", "retrieval", "xquad", "storage")
RERANKED = 100
PARAGRAPHS_RERANKED = 50

Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Section:
    """A table; every row has the same keys."""

    title: str
    rows: list[Row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running server; default: start one per precision")
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--what", nargs="+", default=WHAT, choices=WHAT, help="default: all")
    parser.add_argument("--precision", nargs="+", default=["auto"], help="of the servers that are started")
    parser.add_argument("--languages", nargs="+", default=["en"], help="of XQuAD")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/ir"), help="has dl19 and xquad/LANGUAGE")
    parser.add_argument("--markdown", action="store_true", help="print tables for a page")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    sections: dict[str, list[Section]] = {}
    for precision in ["of the server"] if arguments.url else arguments.precision:
        with (
            server(arguments.url, arguments.model, precision) as url,
            SIEClient(url, timeout_s=600) as client,
            Progress(console=Console(stderr=True)) as progress,
        ):
            sections[precision] = list(measure(Embedder(client, arguments.model, progress), arguments))
        for section in sections[precision]:
            show(section, f"{arguments.model}, precision {precision}", arguments.markdown)
    if arguments.json:
        figures = {precision: [asdict(section) for section in some] for precision, some in sections.items()}
        arguments.json.write_text(
            json.dumps({"processor": processor_name(), "model": arguments.model, "precision": figures}, indent=2)
        )


def measure(embedder: Embedder, arguments: argparse.Namespace) -> Iterator[Section]:
    what = arguments.what
    if set(what) - {"xquad"}:
        yield from passages(embedder, Collection(arguments.data / "dl19", ["nDCG@10", "RR(rel=2)@10"]), what)
    if {"xquad", "storage"} & set(what):
        for language in arguments.languages:
            yield from paragraphs(
                embedder, Collection(arguments.data / "xquad" / language, ["R@1", "R@10"]), language, what
            )


def passages(embedder: Embedder, collection: Collection, what: Iterable[str]) -> Iterator[Section]:
    """TREC DL 2019."""
    bm25 = collection.bm25()
    candidates = ranked(bm25)
    readings = READINGS if "storage" in what else (FLOAT32,)

    dense = embedder.rank(
        collection, candidates if set(what) == {"rerank"} else collection.everything(), "dense", readings
    )
    first = top(dense[FLOAT32].scores, RERANKED)
    # Multivectors of the whole collection would be almost a hundred times as large: only those that are compared.
    compared = candidates & bool({"rerank", "storage"} & set(what)) | first & ("retrieval" in what)
    late = embedder.rank(collection, compared, "multivector")

    if "rerank" in what:
        rankings = {
            "BM25": bm25,
            "score of the server": reranked(embedder, collection, candidates),
            "dense": among(dense[FLOAT32].scores, candidates),
            "MaxSim in the client": among(late[FLOAT32].scores, candidates),
        }
        yield Section("dl19, BM25's top 100 reranked", rows(collection, rankings))
    if "retrieval" in what:
        rankings = {
            "dense": dense[FLOAT32].scores,
            f"dense, its top {RERANKED} reranked by MaxSim": among(late[FLOAT32].scores, first),
        }
        yield Section(
            f"dl19, retrieval from the union of five runs, {len(first[0]):,} passages", rows(collection, rankings)
        )
    if "storage" in what:
        late |= embedder.rank(collection, candidates, "multivector", READINGS[1:])
        yield Section("dl19, dense, retrieval from the union of five runs", storage(collection, dense))
        yield Section("dl19, dense, BM25's top 100 reranked", storage(collection, only(dense, candidates)))
        yield Section("dl19, MaxSim, BM25's top 100 reranked", storage(collection, only(late, candidates)))


def reranked(embedder: Embedder, collection: Collection, candidates: Mask) -> Scores:
    """Scores of the candidates by the server's `score`."""
    progress = embedder.progress
    task = progress.add_task(f"score, {len(candidates)} queries", total=len(candidates))
    url = embedder.client.base_url
    return asyncio.run(collection.rerank(url, embedder.model, candidates, lambda: progress.advance(task)))


def paragraphs(embedder: Embedder, collection: Collection, language: str, what: Iterable[str]) -> Iterator[Section]:
    """XQuAD in one language."""
    everything = collection.everything()
    readings = READINGS if "storage" in what else (FLOAT32,)
    dense = embedder.rank(collection, everything, "dense", readings)
    late = embedder.rank(collection, everything, "multivector", readings)
    if "xquad" in what:
        first = top(dense[FLOAT32].scores, PARAGRAPHS_RERANKED)
        rankings = {
            "dense": dense[FLOAT32].scores,
            "MaxSim of all paragraphs": late[FLOAT32].scores,
            f"dense, its top {PARAGRAPHS_RERANKED} reranked by MaxSim": among(late[FLOAT32].scores, first),
        }
        yield Section(f"XQuAD {language}, question to paragraph", rows(collection, rankings))
    if "storage" in what:
        yield Section(f"XQuAD {language}, dense", storage(collection, dense))
        yield Section(f"XQuAD {language}, MaxSim of all paragraphs", storage(collection, late))


def rows(collection: Collection, rankings: dict[str, Scores]) -> list[Row]:
    return [{"ranking": name, **collection.measure(scores)} for name, scores in rankings.items()]


def only(ranking: dict[Reading, Stored], candidates: Mask) -> dict[Reading, Stored]:
    """Rankings of some documents."""
    return {reading: stored._replace(scores=among(stored.scores, candidates)) for reading, stored in ranking.items()}


def storage(collection: Collection, ranking: dict[Reading, Stored]) -> list[Row]:
    """Table of each dtype's bytes and quality."""
    base = collection.measure(ranking[FLOAT32].scores)
    table: list[Row] = []
    for reading, stored in ranking.items():
        size = stored.sizes[ranked(stored.scores).any(axis=0)].mean()
        row: Row = {"dtype": reading.dtype, "read": reading.name, "bytes per document": round(size)}
        for measure, value in collection.measure(stored.scores).items():
            row |= {measure: value, f"Δ {measure}": value - base[measure]}
        table.append(row)
    return table


def show(section: Section, caption: str, markdown: bool) -> None:
    columns = list(section.rows[0])
    lines = [[_cell(column, value) for column, value in row.items()] for row in section.rows]
    if markdown:
        print(f"{section.title} ({caption}):\n")
        print("\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *lines]), end="\n\n")
        return
    table = Table(*columns, title=section.title, caption=caption)
    for line in lines:
        table.add_row(*line)
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)


def _cell(column: str, value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:+.4f}" if column.startswith("Δ") else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value


@contextmanager
def server(url: str | None, model: str, precision: str) -> Iterator[str]:
    """The server at `url`, or one on a free port that is stopped at the end."""
    if url:
        yield url
        return
    with ServerProcess("--preload", model, "--precision", precision) as started:
        yield started.url


if __name__ == "__main__":
    main()
