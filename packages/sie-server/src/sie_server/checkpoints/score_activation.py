"""The function between a logit and a score, as sentence-transformers names it."""

from sie_server.errors import UnsupportedModelError
from sie_server.options import Score

_CLASSES: dict[str, tuple[str, Score]] = {
    "Sigmoid": ("activation", "probability"),
    "Identity": ("linear", "logit"),
    "LogSigmoid": ("activation", "log_probability"),
    "Tanh": ("activation", "tanh"),
    "ReLU": ("activation", "relu"),
}
# By each import path that leads to the class.
_SCORES: dict[str, Score] = {
    path: score
    for name, (module, score) in _CLASSES.items()
    for path in (f"torch.nn.{name}", f"torch.nn.modules.{name}", f"torch.nn.modules.{module}.{name}")
}


def score_of(path: str | None, labels: int = 1) -> Score:
    """What a cross-encoder's score is. path: of its function; None: sentence-transformers' default.

    Raises:
        UnsupportedModelError: it is another function.
    """
    if path is None:
        return "probability" if labels == 1 else "logit"
    if path not in _SCORES:
        raise UnsupportedModelError(
            f"the score function {path!r} (activation_fn) is not supported; supported: torch.nn's {', '.join(_CLASSES)}"
        )
    return _SCORES[path]
