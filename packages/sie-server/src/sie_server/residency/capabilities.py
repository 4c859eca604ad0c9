"""Outputs that a model has, and the errors for those that it does not have."""

from collections.abc import Sequence as Items

from sie_server.catalog.catalog import Entry
from sie_server.errors import Code, SIEError


def require(entry: Entry, outputs: Items[str]) -> None:
    """Raises SIEError: INVALID_INPUT, the model does not have all of these outputs."""
    available = entry.outputs or ()
    if all(output in available for output in outputs):
        return
    if "score" in outputs and "score" not in available:
        raise SIEError(
            Code.INVALID_INPUT,
            f"Model '{entry.id}' does not support scoring. Use an encoder model with /v1/encode instead, "
            "or use a reranker model.",
        )
    raise unsupported(entry, sorted(set(outputs).difference(available)))


def unsupported(entry: Entry, outputs: Items[str]) -> SIEError:
    """The error for outputs that a model does not have."""
    supported = sorted(set(entry.outputs or ()) - {"score"})
    return SIEError(
        Code.INVALID_INPUT,
        f"Model '{entry.id}' does not support output types: {_braces(outputs)}. Supported: {_braces(supported)}",
    )


def _braces(names: Items[str]) -> str:
    return "{" + ", ".join(map(repr, names)) + "}"
