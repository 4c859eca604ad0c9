"""Results of the engine, and how scores become a ranking."""

import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from sie_server.catalog.catalog import Entry
from sie_server.engine.highlights import Traced
from sie_server.errors import Code, SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Score
from sie_server.tokenization.sequence import Sequence


@dataclass(slots=True)
class Timing:
    """Seconds a request spent in each stage, summed over its parts."""

    tokenization: float = 0.0
    queue: float = 0.0
    inference: float = 0.0


@dataclass(slots=True)
class Ranking:
    """Documents ranked by their scores. All lists but two have one entry per document, in the order of the call.

    order: indices of the ranked documents, best first; of equal scores, the first in the call. scores: activation
    applied. lengths: tokens of each document's pair, over all its windows, a shared prefix included. truncated: whether
    a document was cut. spans: the part of its text that scored best, in code points, half-open; None unless long
    documents are divided into windows. tokens: those computed, a shared prefix once. highlights: what the call made of
    those of each ranked document, in the order of `order`; empty if it wants none.
    """

    order: Items[int]
    scores: list[float]
    lengths: list[int]
    truncated: list[bool]
    spans: list[tuple[int, int] | None]
    tokens: int
    timing: Timing
    highlights: list[Any]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Vectors of texts: for each text a dict by output. entry: of the model. tokens: of all texts."""

    vectors: list[dict[str, Any]]
    entry: Entry
    tokens: int
    timing: Timing


def rank(
    model: LoadedModel,
    query: Sequence | None,
    sequences: Items[Sequence],
    results: Items[Any],
    timing: Timing,
    top_k: int | None,
    traced: bool,
) -> tuple[Ranking, Traced | None]:
    """Rank documents by one result per sequence: a score, or, if `traced`, the matches that it is made of.

    query: None if each sequence has the query in it.

    Raises:
        SIEError: INFERENCE_ERROR, a score is not finite.
    """
    scores = [result.score for result in results] if traced else results
    if not all(map(math.isfinite, scores)):
        raise SIEError(Code.INFERENCE_ERROR, f"Model '{model.id}' produced non-finite scores")
    prefix = len(sequences[0].prefix or ())
    best = best_windows(sequences, scores, results, prefix)
    activation = ACTIVATIONS.get(model.score)
    final = best.scores if activation is None else [activation(score) for score in best.scores]
    # sorted() is stable, and stays so in reverse.
    order = sorted(range(len(final)), key=final.__getitem__, reverse=True)
    ranking = Ranking(
        order=order if top_k is None else order[:top_k],
        scores=final,
        lengths=best.lengths,
        truncated=[sequence.truncated for sequence in best.sequences],
        spans=[sequence.span for sequence in best.sequences],
        tokens=sum(map(len, sequences)) + prefix + len(query or ()),
        timing=timing,
        highlights=[],
    )
    return ranking, Traced(query, best.sequences, best.results) if traced and query is not None else None


@dataclass(frozen=True, slots=True)
class BestWindows:
    """The best window of each document, with its score and result, and the tokens of all windows of the document."""

    sequences: list[Sequence]
    scores: list[float]
    results: list[Any]
    lengths: list[int]


def best_windows(
    sequences: Items[Sequence], scores: Iterable[float], results: Iterable[Any], prefix: int
) -> BestWindows:
    """Choose the best window of each document, the first of equal ones, from one score and one result per window.

    The windows of a document follow each other. prefix: number of tokens in front of each, which count for its length.
    """
    if len(sequences) == sequences[-1].document + 1:  # one window each
        return BestWindows(
            list(sequences), list(scores), list(results), [prefix + len(sequence) for sequence in sequences]
        )
    windows = zip(sequences, scores, results, strict=True)
    documents = [list(group) for _, group in groupby(windows, key=lambda window: window[0].document)]
    best = [max(group, key=itemgetter(1)) for group in documents]
    return BestWindows(
        sequences=[sequence for sequence, *_ in best],
        scores=[score for _, score, _ in best],
        results=[result for *_, result in best],
        lengths=[sum(prefix + len(sequence) for sequence, *_ in group) for group in documents],
    )


def sigmoid(x: float) -> float:
    # The branch keeps exp() from overflowing.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


# Applied to a logit, by the kind of score; any other score stays as it is. None of them changes the order.
ACTIVATIONS: Mapping[Score | None, Callable[[float], float]] = {
    "probability": sigmoid,
    "log_probability": _log_sigmoid,
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
}
