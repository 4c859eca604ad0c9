"""Scores between 0 and 1, as most rerank APIs promise them."""

from collections.abc import Sequence as Items

from sie_server.engine.results import Ranking
from sie_server.engine.score_activation import sigmoid


def unit_scores(ranking: Ranking) -> Items[float]:
    """The scores of a ranking between 0 and 1, in the same order.

    The sigmoid of a logit; late interaction's sum divided by the number of query tokens, at least 0; a similarity, at
    least 0 and at most 1; of sparse vectors x / (1 + x).
    """
    match ranking.score:
        case "maxsim":
            return [_within(score / max(ranking.query_tokens, 1)) for score in ranking.raw]
        case "similarity" if ranking.mode == "sparse":
            return [max(score, 0.0) / (1 + max(score, 0.0)) for score in ranking.raw]
        case "similarity" | None:
            return [_within(score) for score in ranking.raw]
        case _:
            return [sigmoid(score) for score in ranking.raw]


def _within(score: float) -> float:
    return min(max(score, 0.0), 1.0)
