"""The ranking of the documents of a TREC run."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from sie_server.cli.rankers.ranker import Ranker
from sie_server.cli.rerank.corpus import Corpus
from sie_server.cli.rerank.formats import Form
from sie_server.cli.rerank.request import Request
from sie_server.cli.rerank.requests import WINDOW, documents, outcome
from sie_server.cli.rerank.trec_run import Candidates, TrecRun
from sie_server.cli.streaming.batches import Batch
from sie_server.cli.streaming.destination import Destination
from sie_server.cli.streaming.lines import FaultError, Line
from sie_server.cli.streaming.progress_bar import ProgressBar
from sie_server.cli.streaming.run import OnError, Outcome, stream


async def rank_run(
    run: TrecRun,
    corpus: Corpus,
    queries: Mapping[str, str],
    depth: int | None,
    ranker: Ranker,
    form: Form,
    destination: Destination,
    on_error: OnError,
    progress: ProgressBar,
) -> None:
    """Write the ranking of the first `depth` documents of each query. Raises as `stream`."""

    async def work(batch: Batch[Request]) -> Sequence[Outcome]:
        [line], [request] = batch.lines, batch.values
        return [await outcome(ranker, request, form, line.number, f"query '{request.name}'")]

    async def found() -> AsyncIterator[Batch[Request]]:
        number = end = 0
        left = destination.lines
        for candidates in run.candidates(depth):
            number += 1
            end += len(candidates.documents)
            line = Line(number, end, _digested(candidates, queries))
            if left:
                left -= 1
                destination.passed(line.content)
                continue
            try:
                request = await asyncio.to_thread(_request, candidates, corpus, queries)
            except FaultError as error:
                yield Batch([line], fault=error)
            else:
                yield Batch([line], [request], request.size)

    await stream(
        found(),
        work,
        destination,
        WINDOW,
        on_error,
        progress,
        count=documents,
        end=lambda batch: batch.lines[-1].offset,
    )


def _digested(candidates: Candidates, queries: Mapping[str, str]) -> bytes:
    """All that the ranking of a query depends on except the corpus."""
    return "\x00".join([candidates.query, queries.get(candidates.query, ""), *candidates.documents]).encode()


def _request(candidates: Candidates, corpus: Corpus, queries: Mapping[str, str]) -> Request:
    """The texts of a query and its documents. Raises FaultError: one is not there."""
    if (query := queries.get(candidates.query)) is None:
        raise FaultError(f"{candidates.places[0]}: there is no query '{candidates.query}' in the file of --queries.")
    texts = []
    for document, place in zip(candidates.documents, candidates.places, strict=True):
        if (text := corpus.text(document)) is None:
            raise FaultError(f"{place}: there is no document '{document}' in the file of --corpus.")
        texts.append(text)
    return Request(candidates.query, query, texts, [*candidates.documents], {})
