"""Reads the key `activation_fn` of sentence-transformers, which names a function of `engine/score_activation.py`."""

from sie_server.errors import UnsupportedModelError
from sie_server.options import Score

_CLASSES: dict[str, tuple[str, Score]] = {
    "Sigmoid": ("activation", "probability"),
    "Identity": ("linear", "logit"),
    "LogSigmoid": ("activation", "log_probability"),
    "Tanh": ("activation", "tanh"),
    "ReLU": ("activation", "relu"),
}
# By every import path of the class.
_SCORES: dict[str, Score] = {
    path: score
    for name, (module, score) in _CLASSES.items()
    for path in (f"torch.nn.{name}", f"torch.nn.modules.{name}", f"torch.nn.modules.{module}.{name}")
}


def score_of(path: str | None, labels: int = 1) -> Score:
    """The kind of a cross-encoder's score. path: import path of its function; None: sentence-transformers' default.

    Raises:
        UnsupportedModelError: the function is not supported.
    """
    if path is None:
        return "probability" if labels == 1 else "logit"
    if path not in _SCORES:
        raise UnsupportedModelError(
            f"the score function {path!r} (activation_fn) is not supported; supported: torch.nn's {', '.join(_CLASSES)}"
        )
    return _SCORES[path]
