"""Opens the ranker that a command's flags describe."""

from contextlib import AbstractAsyncContextManager

from sie_server.cli.quick_imports import quick_imports
from sie_server.cli.rankers.dialects import DIALECTS
from sie_server.cli.rankers.ranker import Ranker
from sie_server.options import LongDocuments, Precision

# Its weights can be installed from a package index, so that it is at hand without a hub.
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def refuse_choice(device: str, precision: Precision) -> None:
    """Refuse a device and a precision for a model on a server. Raises ValueError."""
    if (device, precision) != ("auto", "auto"):
        raise ValueError("device and precision are those of the server at --url, and can't be chosen here")


def open_ranker(
    model: str | None,
    *,
    url: str | None = None,
    instruction: str | None = None,
    long_documents: LongDocuments | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    api_key: str | None = None,
) -> AbstractAsyncContextManager[Ranker]:
    """A ranker, for use in an `async with`: of a model in this process, of a server, or of another API.

    model: a hub id, a folder, `NAME=FOLDER` or `ID:PROFILE`; None: the default, or with a `url` the only model that the
    server has loaded. url: of a server of SIE, or `DIALECT:URL`, of a server that speaks one of `DIALECTS`.
    long_documents, instruction: None for the model's own. device, precision: in this process. api_key: None for the one
    in the environment.

    Raises, on entering:
        ValueError: an argument is wrong, or can't be honoured by that server.
        UnavailableError: the model can't be loaded, or the server can't be reached or does not have it.
    """
    # What the others need is imported for them alone: torch takes a second.
    if url is None:
        with quick_imports():
            from sie_server.cli.rankers.in_process import engine_ranker

        return engine_ranker(model or DEFAULT_MODEL, instruction, long_documents, device, precision)
    refuse_choice(device, precision)
    scheme, separator, rest = url.partition(":")
    if scheme in ("http", "https"):
        from sie_server.cli.rankers.server import server_ranker

        return server_ranker(url, model, instruction, long_documents, api_key)
    if not separator or scheme not in DIALECTS:
        known = ", ".join(DIALECTS)
        raise ValueError(f"{url!r} is neither http://… nor DIALECT:https://…, where DIALECT is one of {known}")
    if long_documents is not None:
        raise ValueError(f"the API {scheme} does not say how to treat long documents")
    from sie_server.cli.rankers.other_server import other_ranker

    return other_ranker(scheme, DIALECTS[scheme], rest, model, instruction, api_key)
