"""Measures by their ir-measures names, and their values per query."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import ir_measures
from ir_measures import AP, RR, R, nDCG
from ir_measures.measures.base import MeanAgg

from sie_server.cli.eval.dataset import Query
from sie_server.cli.eval.ranking import order
from sie_server.cli.streaming.lines import FaultError

CUTOFF = 10
# Providers that compute in this process: others call programs, or guess.
_PROVIDERS = ("pytrec_eval", "msmarco", "judged", "accuracy")
# Commas, but not those of parameters.
_BETWEEN = re.compile(r",(?![^(]*\))")
_TITLES = {"AP": "MAP", "RR": "MRR", "R": "Recall"}


def parse(names: Sequence[str], relevance_level: int) -> list[Any]:
    """Measures of ir-measures: nDCG@10, RR@10, R@10 and AP without names.

    names: of one measure each, or of several, parted by commas, as in `nDCG@20,P(rel=2)@5`.
    relevance_level: the least grade of a relevant document, for the measures that have one and do not name another.

    Raises:
        FaultError: a name is unknown, is there twice, or is of a measure that is no mean over the queries.
    """
    listed = [each.strip() for name in names for each in _BETWEEN.split(name)]
    chosen = [_parse(name) for name in listed] or [nDCG @ CUTOFF, RR @ CUTOFF, R @ CUTOFF, AP]
    if relevance_level != 1:
        chosen = [
            measure(rel=relevance_level)
            if "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params
            else measure
            for measure in chosen
        ]
    for measure in chosen:
        if chosen.count(measure) > 1:
            raise FaultError(f"The measure {measure} is there twice.")
    return chosen


def title(measure: Any) -> str:
    """The name by which its mean is known: MAP for AP, MRR@10 for RR(rel=2)@10."""
    others = ", ".join(f"{key}={value}" for key, value in measure.params.items() if key not in ("cutoff", "rel"))
    cutoff = measure.params.get("cutoff")
    name: str = _TITLES.get(measure.NAME, measure.NAME)
    return name + (f"({others})" if others else "") + ("" if cutoff is None else f"@{cutoff}")


def values(
    measures: Sequence[Any], queries: Sequence[Query], rankings: Mapping[str, Sequence[str]]
) -> dict[Any, list[float]]:
    """Value of each measure for each query, as trec_eval computes it; 0 for a query without a ranking.

    rankings: ids of the documents by query, the best first.
    """
    # Places, not scores: no provider has a tie to break.
    run = {name: {document: -float(at) for at, document in enumerate(ids)} for name, ids in rankings.items() if ids}
    grades = {query.id: dict(query.grades) for query in queries}
    place = {query.id: at for at, query in enumerate(queries)}
    found = {measure: [0.0] * len(queries) for measure in measures}
    if run:
        for metric in ir_measures.iter_calc(measures, grades, run):
            found[metric.measure][place[metric.query_id]] = float(metric.value)
    return found


def reranked(query: Query, scores: Sequence[float]) -> list[str]:
    """Ids of the candidates by these scores, the best first."""
    ids = query.candidates.ids
    return [ids[at] for at in order(ids, scores)]


def first_stage(query: Query) -> list[str]:
    """Ids of the candidates in the order of the first stage."""
    scores = query.candidates.scores
    return list(query.candidates.ids) if scores is None else reranked(query, scores)


def perfect(query: Query) -> list[str]:
    """Ids of the candidates by their grades: no reranker can do better."""
    return sorted(query.candidates.ids, key=lambda document: query.grades.get(document, 0), reverse=True)


def _parse(name: str) -> Any:
    try:
        measure = ir_measures.parse_measure(name)
    except (NameError, ValueError, SyntaxError, TypeError, AssertionError) as error:
        raise FaultError(
            f"ir-measures has no measure '{name}'. Names are like nDCG@10, RR@10, R@100, P@5, AP or Success@5."
        ) from error
    if not isinstance(measure.aggregator(), MeanAgg):
        raise FaultError(f"The measure {name} is no mean over the queries, so models can't be compared by it.")
    if not any(ir_measures.providers.registry[provider].supports(measure) for provider in _PROVIDERS):
        raise FaultError(f"The measure {name} needs a program that is not installed.")
    return measure
