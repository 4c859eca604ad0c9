"""Bodies of errors, in the shape that the clients of a route expect: SIE's own, or OpenAI's."""

import asyncio
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from sie_server.errors import ANSWERS, Code, LoadClass, SIEError
from sie_server.http.negotiation import json
from sie_server.request_context import CURRENT

_OPENAI = "/v1/embeddings"
# Paths of the APIs of others, and the prefixes of all their paths; those whose errors have TEI's form.
_FOREIGN = frozenset(
    {
        *("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/v1/rerankings"),
        *("/v1/embed", "/v2/embed", "/v1/models/embed", "/pooling"),
        *("/info", "/score", "/v1/score", "/v1/ranking", "/v1/models/rerank"),
    }
)
_PREFIXES = frozenset(
    {
        *("cohere", "jina", "voyage", "mixedbread", "zeroentropy", "pinecone", "together", "vllm", "sglang"),
        *("infinity", "xinference", "nim", "isaacus", "deepinfra", "dashscope", "compatible-api", "fireworks"),
        "inference",
    }
)
_PLAIN = frozenset(
    {"tei", "weaviate", "embed", "embed_sparse", "embed_all", "predict", "tokenize", "decode", "invocations"}
)
_DEEPINFRA = "/v1/inference/"
_TEI_TYPES = {422: "Validation", 429: "Overloaded", 503: "Unhealthy", 502: "Backend", 500: "Backend", 504: "Backend"}


def _codes(*others: Code) -> list[str]:
    return sorted({answer.wire for code, answer in ANSWERS.items() if code not in (Code.SHUTTING_DOWN, *others)})


class ErrorDetail(Struct):
    """`param`: the field at fault. The last three: of a model that failed to load."""

    code: Annotated[str, Meta(extra_json_schema={"enum": _codes(Code.UNSUPPORTED_FIELD)})]
    message: str
    param: str | UnsetType = UNSET
    error_class: LoadClass | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    permanent: bool | UnsetType = UNSET


class Error(Struct):
    """Body of an error of SIE's own routes."""

    detail: ErrorDetail


class OpenAIErrorDetail(Struct):
    """`param`: the field at fault. The last three: of a model that failed to load."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: Annotated[str, Meta(extra_json_schema={"enum": _codes()})]
    error_class: LoadClass | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    permanent: bool | UnsetType = UNSET


class OpenAIError(Struct):
    """Body of an error of the routes that are compatible with OpenAI's and Cohere's APIs."""

    error: OpenAIErrorDetail


class ForeignError(Struct):
    """Body of an error of the APIs of others: the text, wherever one of their clients looks for it."""

    error: OpenAIErrorDetail
    detail: str
    message: str


class PlainError(Struct):
    """Body of an error in TEI's form."""

    error: str
    error_type: str


class ShuttingDown(Struct):
    """Body of every response once the server refuses new requests."""

    code: Annotated[str, Meta(extra_json_schema={"enum": [ANSWERS[Code.SHUTTING_DOWN].wire]})]
    error: Literal["Service shutting down"]
    detail: str


class Refusal(Struct):
    """Body of a refused status stream."""

    detail: str


def error_response(path: str, error: SIEError) -> Response:
    """The response to a failed request to `path`."""
    # A connection may be refused before there is a request.
    if (request := CURRENT.get()) is not None:
        request.code = error.answer.wire
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    # The rest of a body that was refused half way is not worth reading.
    if error.answer.status == 408:
        headers["Connection"] = "close"
    return json(error_body(path, error), error.answer.status, headers)


def foreign_response(error: SIEError, *, plain: bool, busy: int) -> Response:
    """The response to a failed request in the API of another. plain: in TEI's form. busy: status of a full queue."""
    if (request := CURRENT.get()) is not None:
        request.code = error.answer.wire
    status = error.answer.status
    if error.code in (Code.QUEUE_FULL, Code.RESOURCE_EXHAUSTED):
        status = busy
    elif plain and status == 400:
        status = 422
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if status == 408:
        headers["Connection"] = "close"
    return json(_plain(error, status) if plain else _foreign(error), status, headers)


def is_foreign(path: str) -> bool:
    """Whether errors at this path have the form of another API."""
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    return path in _FOREIGN or first in _PREFIXES or first in _PLAIN or path.startswith(_DEEPINFRA)


def error_body(path: str, error: SIEError) -> Error | OpenAIError | ForeignError | PlainError:
    """The body of that response."""
    if path == _OPENAI:
        return OpenAIError(_openai(error))
    if not is_foreign(path):
        return Error(ErrorDetail(error.answer.wire, error.message, **error.extras))
    return _plain(error, error.answer.status) if path.split("/", 2)[1] in _PLAIN else _foreign(error)


def _plain(error: SIEError, status: int) -> PlainError:
    return PlainError(error.message, _TEI_TYPES.get(status, "Validation"))


def _foreign(error: SIEError) -> ForeignError:
    return ForeignError(_openai(error), error.message, error.message)


def _openai(error: SIEError) -> OpenAIErrorDetail:
    kind: Literal["invalid_request_error", "server_error"] = (
        "invalid_request_error" if error.answer.status < 500 else "server_error"
    )
    fields: dict[str, Any] = {"param": None, **error.extras}
    return OpenAIErrorDetail(message=error.message, type=kind, code=error.answer.wire, **fields)


async def refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the response to a failed request, or in place of a WebSocket."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


def internal_error(path: str) -> Response:
    """The response to a failure that no table foresees."""
    response = error_response(path, SIEError(Code.INTERNAL_ERROR, "internal error"))
    # The exception goes on to uvicorn, which logs it and closes the connection; the client must be told.
    response.headers["Connection"] = "close"
    return response


class ServerErrorMiddleware:
    """Answers every failure with INTERNAL_ERROR, including those of compiled code that are not an `Exception`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noticed)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # uvicorn logs it
            if not started:
                await refuse(internal_error(scope["path"]), scope, receive, send)
            raise
