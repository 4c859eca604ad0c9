"""A test collection in BEIR's layout, and metrics of rankings."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import ir_measures
import numpy as np
from numpy.typing import NDArray

# [queries, documents]: higher is better, NOT_RANKED where a document is not in the ranking.
Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]
NOT_RANKED = -np.inf


class Collection:
    """Queries, documents, judgements and, where the folder has it, BM25's run.

    queries, documents: text by id, in the order of the rows and columns of `Scores`. Raises FileNotFoundError.
    """

    def __init__(self, folder: Path, measures: Sequence[ir_measures.Measure]) -> None:
        self.measures = measures
        self.queries = {line["_id"]: line["text"] for line in _lines(folder / "queries.jsonl")}
        self.documents = {line["_id"]: line["text"] for line in _lines(folder / "corpus.jsonl")}
        rows = (folder / "qrels.tsv").read_text().splitlines()[1:]
        self._judgements = [ir_measures.Qrel(q, d, int(grade)) for q, d, grade in (row.split("\t") for row in rows)]
        self._folder = folder

    def bm25(self) -> Scores:
        """The scores of BM25's top 100."""
        row = {query_id: number for number, query_id in enumerate(self.queries)}
        column = {document_id: number for number, document_id in enumerate(self.documents)}
        scores = self.nothing()
        for query_id, document_id, score in ir_measures.read_trec_run(str(self._folder / "run.bm25.top100.trec")):
            scores[row[query_id], column[document_id]] = score
        return scores

    def nothing(self) -> Scores:
        """An empty ranking."""
        return np.full((len(self.queries), len(self.documents)), NOT_RANKED)

    def everything(self) -> Mask:
        """Every document for every query."""
        return np.ones((len(self.queries), len(self.documents)), np.bool_)

    def measure(self, scores: Scores) -> dict[str, float]:
        """Mean over the queries, as trec_eval computes it; equal scores are ordered by the documents' ids."""
        ids = list(self.documents)
        run = {
            query_id: {ids[column]: float(row[column]) for column in np.flatnonzero(row > NOT_RANKED)}
            for query_id, row in zip(self.queries, among(scores, top(scores, 100)), strict=True)
        }
        values = ir_measures.calc_aggregate(self.measures, self._judgements, run)
        return {str(measure): float(values[measure]) for measure in self.measures}


def ranked(scores: Scores) -> Mask:
    """Mask of the documents in a ranking."""
    return scores > NOT_RANKED


def top(scores: Scores, k: int) -> Mask:
    """The `k` best documents of each query, or fewer if fewer are ranked; ties go to the first in the collection."""
    best = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(best, np.argsort(-scores, axis=1, kind="stable")[:, :k], True, axis=1)
    return best & ranked(scores)


def among(scores: Scores, candidates: Mask) -> Scores:
    """Restrict a ranking to some documents."""
    return np.where(candidates, scores, NOT_RANKED)


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)
