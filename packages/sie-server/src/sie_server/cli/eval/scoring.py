"""The scoring of all queries by a contender."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sie_server.cli.eval.dataset import Dataset, Query
from sie_server.cli.eval.journal import Journal, Scored
from sie_server.cli.rankers.ranker import Ranker, RankerError, UnavailableError


@dataclass(frozen=True, slots=True)
class Failure:
    """A query that a ranker refused. message: its sentence."""

    query: str
    message: str


async def score_queries(
    ranker: Ranker, dataset: Dataset, journal: Journal, concurrency: int, advance: Callable[[], None]
) -> list[Failure]:
    """Score the candidates of all queries that are not in the journal yet, and return those that the ranker refused.

    Before the first, a document is scored that does not count: what a model does once is no part of a query's latency.

    Raises:
        UnavailableError: the ranker can't be used any more; the journal has what it scored.
        FaultError: the dataset has changed.
    """
    pending = [query for query in dataset.queries if query.id not in journal.scored and len(query.candidates)]
    failures: list[Failure] = []
    if pending:
        await _warm_up(ranker, dataset, pending[0])
    waiting = iter(pending)

    async def work() -> None:
        for query in waiting:
            try:
                journal.add(await _score(ranker, query, dataset.texts(query)))
            except UnavailableError:
                raise
            except RankerError as error:
                failures.append(Failure(query.id, str(error)))
            advance()

    tasks = [asyncio.create_task(work()) for _ in range(min(concurrency, len(pending)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return failures


async def _score(ranker: Ranker, query: Query, texts: Sequence[str]) -> Scored:
    started = time.time()
    ranked = await ranker.rank(query.text, texts)
    if len(ranked.scores) != len(texts):
        raise RankerError(f"{ranker.name} gave {len(ranked.scores)} scores for {len(texts)} documents.")
    if not all(map(math.isfinite, ranked.scores)):
        raise RankerError(f"{ranker.name} gave a score that is not a number.")
    return Scored(query.id, ranked.scores, started, ranked.seconds, ranked.tokens, ranked.truncated)


async def _warm_up(ranker: Ranker, dataset: Dataset, query: Query) -> None:
    try:
        await ranker.rank(query.text, dataset.texts(query)[:1])
    except UnavailableError:
        raise
    except RankerError:
        return  # the query will be refused again, and be reported then
