"""What a model gives, and what a request for something else is told."""

from collections.abc import Sequence as Items

from sie_server.catalog.catalog import Entry
from sie_server.errors import Code, SIEError


def require(entry: Entry, outputs: Items[str]) -> None:
    """Raises SIEError: INVALID_INPUT, the model does not have all of these outputs."""
    has = set(entry.outputs or ())
    if "score" in outputs and "score" not in has:
        raise SIEError(
            Code.INVALID_INPUT,
            f"Model '{entry.id}' does not support scoring. Use an encoder model with /v1/encode instead, "
            "or use a reranker model.",
        )
    if missing := sorted(set(outputs) - has):
        raise unsupported(entry, missing)


def unsupported(entry: Entry, outputs: Items[str]) -> SIEError:
    """The answer to a request for embeddings that a model does not give."""
    supported = sorted(set(entry.outputs or ()) - {"score"})
    return SIEError(
        Code.INVALID_INPUT,
        f"Model '{entry.id}' does not support output types: {_braces(outputs)}. Supported: {_braces(supported)}",
    )


def _braces(names: Items[str]) -> str:
    return "{" + ", ".join(map(repr, names)) + "}"
