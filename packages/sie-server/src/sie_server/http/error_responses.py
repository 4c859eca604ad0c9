"""Errors in the shape that the clients of a route expect: SIE's own, or OpenAI's."""

from typing import Any

from starlette.responses import Response

from sie_server.errors import SIEError
from sie_server.http.negotiation import json
from sie_server.request_context import CURRENT

_OPENAI = frozenset({"/v1/embeddings", "/v1/rerank"})


def answer(path: str, error: SIEError) -> Response:
    """What a client of this path is told."""
    # Connections are refused before there is a request.
    if (request := CURRENT.get()) is not None:
        request.code = error.answer.wire
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    # What is left of a body that was refused half way is not worth reading.
    if error.answer.status == 408:
        headers["Connection"] = "close"
    return json(_openai(error) if path in _OPENAI else error.body, error.answer.status, headers)


def _openai(error: SIEError) -> dict[str, Any]:
    kind = "invalid_request_error" if error.answer.status < 500 else "server_error"
    fields = {"message": error.message, "type": kind, "param": None, "code": error.answer.wire}
    return {"error": {**fields, **error.extras}}
