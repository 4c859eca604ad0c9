"""What the engine answers with."""

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

from sie_server.engine.best import FUNCTIONS, best_windows
from sie_server.engine.highlights import Traced
from sie_server.errors import Code, SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.tokenization.sequence import Sequence


@dataclass(slots=True)
class Timing:
    """Seconds a request spent per stage. Stages of its parts add up."""

    tokenization: float = 0.0
    queue: float = 0.0
    inference: float = 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """One score per document, in input order, activation applied.

    lengths: tokens of each document's pair, over all its windows, a shared prefix included. truncated: whether it was
    cut. spans: the part of its text that scored best, in code points, half-open; None unless long documents go in
    windows. tokens: those computed, a shared prefix once. traced: what made the scores, where it was asked for.
    """

    scores: list[float]
    lengths: list[int]
    truncated: list[bool]
    spans: list[tuple[int, int] | None]
    tokens: int
    timing: Timing
    traced: Traced | None


@dataclass(frozen=True, slots=True)
class Encoded:
    """One dict of vectors per text, by output type."""

    vectors: list[dict[str, Any]]
    tokens: int
    timing: Timing


def scored(
    model: LoadedModel,
    query: Sequence | None,
    sequences: Items[Sequence],
    results: Items[Any],
    timing: Timing,
    *,
    traced: bool,
) -> Scored:
    """From a result per sequence: a score, or, where it is to be `traced`, the matches that made it.

    query: where it was read apart from the documents.

    Raises:
        SIEError: INFERENCE_ERROR, a score is not finite.
    """
    scores = [result.score for result in results] if traced else results
    if not all(map(math.isfinite, scores)):
        raise SIEError(Code.INFERENCE_ERROR, f"Model '{model.id}' produced non-finite scores")
    prefix = len(sequences[0].prefix or ())
    best = best_windows(sequences, scores, results, prefix)
    function = FUNCTIONS.get(model.score)
    return Scored(
        scores=best.scores if function is None else [function(score) for score in best.scores],
        lengths=best.lengths,
        truncated=[sequence.truncated for sequence in best.sequences],
        spans=[sequence.span for sequence in best.sequences],
        traced=Traced(query, best.sequences, best.results) if traced and query is not None else None,
        tokens=sum(map(len, sequences)) + prefix + len(query or ()),
        timing=timing,
    )
