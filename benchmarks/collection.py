"""A test collection in BEIR's format, and measures of rankings, as `sie-server eval` reads and computes them."""

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sie_server.cli.eval import corpus, measures
from sie_server.cli.eval.dataset import Candidates, Counts, Dataset, Lines, Query
from sie_server.cli.eval.journal import Header, Journal
from sie_server.cli.eval.scoring import score_queries
from sie_server.cli.eval.trec import read_qrels, read_run
from sie_server.cli.rankers.open import open_ranker
from sie_server.cli.rerank.corpus import read_queries

# [queries, documents]: higher is better, NOT_RANKED where a document is not in the ranking.
Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]
NOT_RANKED = -np.inf
_DEPTH = 100


class Collection:
    """Queries, documents, judgments and, where the folder has it, BM25's run.

    queries, documents: text by id, in the order of the rows and columns of `Scores`. names: of measures, as ir-measures
    has them. Raises FaultError.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.queries = read_queries(folder / "queries.jsonl")
        path = folder / "corpus.jsonl"
        self.documents = {document.id: document.text for document in corpus.documents(path, Lines(path))}
        self._measures = measures.parse(names, relevance_level=1)
        self._grades, _ = read_qrels(folder / "qrels.tsv")
        self._ids = list(self.documents)
        self._folder = folder

    def bm25(self) -> Scores:
        """The scores of BM25's top 100."""
        column = {document_id: number for number, document_id in enumerate(self._ids)}
        run = read_run(self._folder / "run.bm25.top100.trec", self.queries, _DEPTH)
        scores = self.nothing()
        for row, query_id in enumerate(self.queries):
            ids, values = run.documents.get(query_id, ([], []))
            scores[row, [column[document_id] for document_id in ids]] = values
        return scores

    async def rerank(self, url: str, model: str, candidates: Mask, advance: Callable[[], None]) -> Scores:
        """Scores of the candidates by a model of a server, one request per query.

        Raises:
            UnavailableError: the server can't be reached, or does not have the model.
            RuntimeError: the model refused a query.
        """
        columns = {name: np.flatnonzero(row) for name, row in zip(self.queries, candidates, strict=True)}
        queries = [self._query(name, [self._ids[at] for at in columns[name]]) for name in self.queries]
        dataset = Dataset(
            name=self._folder.name,
            queries=queries,
            counts=Counts(),
            first_stage="",
            sources={},
            texts=lambda query: [self.documents[name] for name in query.candidates.ids],
        )
        journal = Journal(None, Header(model, {}, {}))
        async with open_ranker(model, url=url) as ranker:
            if failures := await score_queries(ranker, dataset, journal, 1, advance):
                raise RuntimeError(failures[0].message)
        scores = self.nothing()
        for row, name in enumerate(self.queries):
            scores[row, columns[name]] = journal.scored[name].scores
        return scores

    def nothing(self) -> Scores:
        """An empty ranking."""
        return np.full((len(self.queries), len(self.documents)), NOT_RANKED)

    def everything(self) -> Mask:
        """Every document for every query."""
        return np.ones((len(self.queries), len(self.documents)), np.bool_)

    def measure(self, scores: Scores) -> dict[str, float]:
        """Mean over the judged queries, as trec_eval computes it; equal scores are ordered by the documents' ids."""
        rankings, queries = {}, []
        for name, row in zip(self.queries, among(scores, top(scores, _DEPTH)), strict=True):
            columns = np.flatnonzero(row > NOT_RANKED)
            query = self._query(name, [self._ids[column] for column in columns])
            queries += [query] * (name in self._grades)
            rankings[name] = measures.reranked(query, row[columns].tolist())
        values = measures.values(self._measures, queries, rankings)
        return {str(measure): float(np.mean(each)) for measure, each in values.items()}

    def _query(self, name: str, ids: Sequence[str]) -> Query:
        return Query(name, self.queries[name], Candidates(ids, array("q"), None), self._grades.get(name, {}))


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
