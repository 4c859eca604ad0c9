"""The figures of an evaluation, from its scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from string import ascii_lowercase
from typing import Any

import numpy as np

from sie_server import __version__
from sie_server.cli.eval import measures as measured
from sie_server.cli.eval.changes import changes
from sie_server.cli.eval.dataset import Dataset
from sie_server.cli.eval.figures import Comparison, Distribution, Evaluated, Results, Row, Speed
from sie_server.cli.eval.journal import Scored
from sie_server.cli.eval.scoring import Failure
from sie_server.cli.eval.significance import Mean, holm, p_value

# Letters name the rows: the first is that of the first stage.
MOST_MODELS = len(ascii_lowercase) - 1
_BINS = 40

Rankings = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Contest:
    """A contender's name, settings, scores by query, and the queries that it refused."""

    name: str
    settings: Mapping[str, str]
    scored: Mapping[str, Scored]
    failures: Sequence[Failure] = ()


def results(dataset: Dataset, contests: Sequence[Contest], measures: Sequence[Any], relevance_level: int) -> Results:
    """All figures. measures: as `measures.parse` gives them, the main one first. Raises FaultError."""
    first = {query.id: measured.first_stage(query) for query in dataset.queries}
    perfect = {query.id: measured.perfect(query) for query in dataset.queries}

    def row(letter: str, name: str, rankings: Rankings, **more: Any) -> Row:
        values = measured.values(measures, dataset.queries, rankings)
        means = {str(measure): Mean.of(each) for measure, each in values.items()}
        return Row(
            letter=letter,
            name=name,
            means=means,
            values={str(measure): each for measure, each in values.items()},
            **more,
        )

    orders: list[Rankings] = [first]
    given = {query.id: query.candidates.scores for query in dataset.queries}
    spread = _distribution(dataset, relevance_level, {name: each for name, each in given.items() if each is not None})
    rows = [row("a", dataset.first_stage, first, kind="first stage", settings={}, distribution=spread)]
    for letter, contest in zip(ascii_lowercase[1:], contests, strict=False):
        scores = {name: scored.scores for name, scored in contest.scored.items()}
        orders.append(
            {
                query.id: measured.reranked(query, scores[query.id]) if query.id in scores else first[query.id]
                for query in dataset.queries
            }
        )
        rows.append(
            row(
                letter,
                contest.name,
                orders[-1],
                kind="model",
                settings=contest.settings,
                speed=speed(list(contest.scored.values())),
                distribution=_distribution(dataset, relevance_level, scores),
                failures=contest.failures,
            )
        )
    names = [str(measure) for measure in measures]
    steps = [(0, at) for at in range(1, len(rows))] + [(1, 2)] * (len(rows) > 2)
    return Results(
        sie_server=__version__,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset=_evaluated(dataset, relevance_level),
        measures=names,
        titles={str(measure): measured.title(measure) for measure in measures},
        rows=[*rows, row("", "perfect order", perfect, kind="perfect order", settings={})],
        comparisons=[comparison for name in names for comparison in _comparisons(name, rows)],
        changes=[changes(dataset, names[0], rows[old], rows[new], orders[old], orders[new]) for old, new in steps],
        queries=[(query.id, query.text) for query in dataset.queries],
    )


def _comparisons(measure: str, rows: Sequence[Row]) -> list[Comparison]:
    """Every row with every earlier one."""
    pairs = [(after, before) for before, after in combinations(rows, 2)]
    p_values = [p_value(one.values[measure], other.values[measure]) for one, other in pairs]
    return [
        Comparison(
            measure=measure,
            one=one.letter,
            other=other.letter,
            difference=Mean.of(np.subtract(one.values[measure], other.values[measure]).tolist()),
            p=p,
            p_holm=corrected,
        )
        for (one, other), p, corrected in zip(pairs, p_values, holm(p_values), strict=True)
    ]


def speed(scored: Sequence[Scored]) -> Speed | None:
    """The speed with which these queries were scored; None for none."""
    if not scored:
        return None
    documents = sum(len(each.scores) for each in scored)
    milliseconds = np.asarray([each.seconds * 1e3 for each in scored])
    p50, p95 = np.percentile(milliseconds, [50, 95], method="inverted_cdf").tolist()
    tokens = [each.tokens for each in scored if each.tokens is not None]
    truncated = [each.truncated for each in scored if each.truncated is not None]
    return Speed(
        queries=len(scored),
        documents=documents,
        p50_ms=p50,
        p95_ms=p95,
        documents_per_s=documents / max(_busy_s(scored), 1e-9),
        tokens=sum(tokens) if len(tokens) == len(scored) else None,
        truncated=sum(truncated) if len(truncated) == len(scored) else None,
    )


def _busy_s(scored: Sequence[Scored]) -> float:
    """Seconds in which at least one request was under way."""
    busy = end = 0.0
    for each in sorted(scored, key=lambda each: each.started):
        finished = each.started + each.seconds
        busy += max(0.0, finished - max(each.started, end))
        end = max(end, finished)
    return busy


def _distribution(dataset: Dataset, level: int, scores: Mapping[str, Sequence[float]]) -> Distribution | None:
    """Scores of relevant and of other candidates; None if there are none, or all are equal."""
    relevant: list[float] = []
    others: list[float] = []
    for query in dataset.queries:
        for document, score in zip(query.candidates.ids, scores.get(query.id, ()), strict=False):
            (relevant if query.grades.get(document, 0) >= level else others).append(score)
    every = [*relevant, *others]
    if not every or min(every) == max(every):
        return None
    edges = np.linspace(min(every), max(every), _BINS + 1)
    counts = [np.histogram(part, edges)[0].tolist() for part in (relevant, others)]
    return Distribution(float(edges[0]), float(edges[-1]), *counts)


def _evaluated(dataset: Dataset, level: int) -> Evaluated:
    relevant = {
        query.id: {document for document, grade in query.grades.items() if grade >= level} for query in dataset.queries
    }
    return Evaluated(
        name=dataset.name,
        first_stage=dataset.first_stage,
        sources=dataset.sources,
        queries=len(dataset.queries),
        candidates=sum(len(query.candidates) for query in dataset.queries),
        relevant=sum(map(len, relevant.values())),
        found=sum(len(relevant[query.id].intersection(query.candidates.ids)) for query in dataset.queries),
        empty=sum(not query.candidates.ids for query in dataset.queries),
        counts=dataset.counts,
        relevance_level=level,
    )
