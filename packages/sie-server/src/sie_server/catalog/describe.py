"""Descriptions of catalogue entries for commands and documentation."""

from sie_server.catalog.catalog import Entry
from sie_server.options import Score

_MEANINGS: dict[Score, str] = {
    "probability": "probability, 0 to 1",
    "logit": "raw logit",
    "log_probability": "natural logarithm of a probability, below 0",
    "tanh": "hyperbolic tangent of a logit, -1 to 1",
    "relu": "raw logit, or 0 where that is below 0",
    "maxsim": "sum of maximal cosines, one per query token",
    "similarity": "cosine, or as selected by `score_mode`",
}
# Upper bounds of the size classes, in parameters.
SIZES = {"tiny": 20_000_000, "small": 100_000_000, "base": 350_000_000, "large": 1_000_000_000}


def meaning(entry: Entry) -> str:
    """Describe the unit of a model's scores."""
    if entry.score == "similarity" and "dense" not in (entry.outputs or ()):
        return "dot product of sparse vectors"
    return "not a reranker" if entry.score is None else _MEANINGS[entry.score]


def kind(entry: Entry) -> str:
    """Describe the kind of model."""
    if entry.score == "maxsim":
        return "embeddings, late interaction" if "dense" in (entry.outputs or ()) else "late interaction"
    if entry.score == "similarity" and "multivector" in (entry.outputs or ()):
        return "embeddings of three kinds"
    if entry.prompt is not None:
        return "decoder"
    if entry.score not in (None, "similarity"):
        return "cross-encoder"
    return "sparse embeddings" if entry.outputs and entry.outputs[0] == "sparse" else "embeddings"


def size(parameters: int) -> str:
    """Size class, which is also the speed class, as time per token grows with the number of parameters."""
    return next((name for name, bound in SIZES.items() if parameters <= bound), "xl")


def count(parameters: int) -> str:
    """Format a number of parameters: `22.7M`, `596M`, `4.02B`."""
    if parameters >= 1e9:
        return f"{parameters / 1e9:.2f}B"
    return f"{parameters / 1e6:.1f}M" if parameters < 1e8 else f"{parameters / 1e6:.0f}M"
