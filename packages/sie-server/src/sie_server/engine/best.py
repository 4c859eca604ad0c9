"""Of each document the window that scored best, and what its score becomes."""

import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from sie_server.options import Score
from sie_server.tokenization.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Best:
    """One entry per document: its best window, that one's score and result, and the tokens of all its windows."""

    sequences: list[Sequence]
    scores: list[float]
    results: list[Any]
    lengths: list[int]


def best_windows(sequences: Items[Sequence], scores: Iterable[float], results: Iterable[Any], prefix: int) -> Best:
    """From one score and one result per window; those of a document follow each other. Of equal windows the first.

    prefix: tokens in front of each, which count for its length.
    """
    scored = zip(sequences, scores, results, strict=True)
    documents = [list(windows) for _, windows in groupby(scored, key=lambda window: window[0].document)]
    best = [max(windows, key=itemgetter(1)) for windows in documents]
    return Best(
        sequences=[sequence for sequence, *_ in best],
        scores=[score for _, score, _ in best],
        results=[result for *_, result in best],
        lengths=[sum(prefix + len(sequence) for sequence, *_ in windows) for windows in documents],
    )


def sigmoid(x: float) -> float:
    # The branch keeps exp() from overflowing.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


# What a logit becomes; one of a score that is not here stays what it is. None of them changes the order.
FUNCTIONS: Mapping[Score | None, Callable[[float], float]] = {
    "probability": sigmoid,
    "log_probability": _log_sigmoid,
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
}
