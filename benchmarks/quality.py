"""Ranking quality on TREC DL 2019 passages, measured through a running server with the Python SDK.

    python benchmarks/quality.py                          # starts a server per precision
    python benchmarks/quality.py --url http://host:8080   # asks a server that runs

Reranks the BM25 top 100 of the 43 judged queries. nDCG@10 has linear gain, MRR@10 counts grades of 2 and more, both
as trec_eval computes them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ir_measures
from ir_measures import RR, Qrel, ScoredDoc, nDCG
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sie_sdk import SIEClient
from sie_sdk.types import Item

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
MEASURES = [nDCG @ 10, RR(rel=2) @ 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running server; default: start one per precision")
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--precision", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/ir/dl19"), help="collection in BEIR layout")
    arguments = parser.parse_args()

    collection = Collection(arguments.data)
    table = Table(title=f"dl19, BM25 top 100 reranked by {arguments.model}")
    for column in ("run", *map(str, MEASURES)):
        table.add_column(column)
    table.add_row("BM25", *collection.measure(collection.candidates))
    if arguments.url:
        table.add_row(arguments.url, *collection.measure(rerank(arguments.url, arguments.model, collection)))
    else:
        for precision in arguments.precision:
            with server(arguments.model, precision) as url:
                table.add_row(precision, *collection.measure(rerank(url, arguments.model, collection)))
    Console().print(table)


class Collection:
    """Queries, documents, judgements and the first stage's run, in BEIR's layout."""

    def __init__(self, folder: Path) -> None:
        self.queries = {line["_id"]: line["text"] for line in _lines(folder / "queries.jsonl")}
        self.documents = {line["_id"]: line["text"] for line in _lines(folder / "corpus.jsonl")}
        rows = (folder / "qrels.tsv").read_text().splitlines()[1:]
        self.judgements = [Qrel(q, d, int(grade)) for q, d, grade in (row.split("\t") for row in rows)]
        self.candidates = list(ir_measures.read_trec_run(str(folder / "run.bm25.top100.trec")))

    def measure(self, run: list[ScoredDoc]) -> list[str]:
        """One formatted value per measure."""
        values = ir_measures.calc_aggregate(MEASURES, self.judgements, run)
        return [f"{values[measure]:.4f}" for measure in MEASURES]


def rerank(url: str, model: str, collection: Collection) -> list[ScoredDoc]:
    """The first stage's candidates with the model's scores."""
    run = []
    with SIEClient(url) as client:
        for query_id, text in track(collection.queries.items(), description="reranking", console=Console(stderr=True)):
            ids = [candidate.doc_id for candidate in collection.candidates if candidate.query_id == query_id]
            items = [Item(id=doc_id, text=collection.documents[doc_id]) for doc_id in ids]
            if items:
                result = client.score(model, Item(id=query_id, text=text), items)
                run += [ScoredDoc(query_id, entry["item_id"], entry["score"]) for entry in result["scores"]]
    return run


@contextmanager
def server(model: str, precision: str) -> Iterator[str]:
    """A server on a free port, stopped at the end."""
    command = [sys.executable, "-m", "sie_server", "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--preload", model, "--precision", precision]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "SIE_LOG_LEVEL": "error"})
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(r"SIE is ready at (\S+)", line):
                break
        else:
            raise SystemExit("the server did not start")
        yield match[1]
    finally:
        process.terminate()
        process.communicate()


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open() as file:
        yield from map(json.loads, file)


if __name__ == "__main__":
    main()
