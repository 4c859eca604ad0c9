"""Functions that make a score of a logit, such as the sigmoid."""

import math
from collections.abc import Callable, Mapping

from sie_server.options import Score


def sigmoid(x: float) -> float:
    """The logistic function."""
    # The branch keeps exp() from overflowing.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


# Applied to a logit, by the kind of score; any other score stays as it is. None of them changes the order.
SCORE_ACTIVATIONS: Mapping[Score | None, Callable[[float], float]] = {
    "probability": sigmoid,
    "log_probability": _log_sigmoid,
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
}
