"""The OpenAPI document, generated from the Structs that decode and encode bodies and from the error table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec
import numpy as np

from sie_server import __version__, wire
from sie_server.api.dialects.dialect import Dialect
from sie_server.api.dialects.fields import RerankFields
from sie_server.api.dialects.table import LISTED, PREFIXED, ROUTES
from sie_server.api.dialects.tei import Info
from sie_server.api.dialects.xinference import XinferenceAuth
from sie_server.api.embed_dialects.dialect import EmbedDialect
from sie_server.api.embed_dialects.fields import EmbeddingsRequest, EmbedFields
from sie_server.api.embed_dialects.openai import OPENAI
from sie_server.api.embed_dialects.table import EMBED_ROUTES
from sie_server.api.request_options import PRIORITY, TIMEOUT
from sie_server.api.tei import TEI_ROUTES, DecodeFields, PredictFields, TokenizeFields
from sie_server.errors import ANSWERS, Answer, Code
from sie_server.http.api_keys import XINFERENCE_AUTH
from sie_server.http.error_responses import Error, ForeignError, OpenAIError, PlainError, Refusal, ShuttingDown
from sie_server.options import Priority

_JSON = ("application/json",)
_JSON_OR_MSGPACK = ("application/json", "application/msgpack")
_SCHEMA = "#/components/schemas/{name}"

_MODEL: dict[str, Any] = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "Model id. Its slash may be sent unescaped or as %2F.",
    "schema": {"type": "string", "minLength": 1},
    "example": "sentence-transformers/all-MiniLM-L6-v2",
}

_SCHEDULING: list[dict[str, Any]] = [
    {
        "name": TIMEOUT,
        "in": "header",
        "description": "Deadline in seconds from now, with decimals. A request that cannot meet it is refused at once.",
        "schema": {"type": "number", "minimum": 0},
    },
    {
        "name": PRIORITY,
        "in": "header",
        "description": "Priority class of the request while the server is busy.",
        "schema": {"enum": [*get_args(Priority)], "default": "normal"},
    },
]

# Requests need a key only if the server has API keys.
_SECURITY: list[dict[str, list[str]]] = [{}, {"key": []}]

_SHUTTING_DOWN = ANSWERS[Code.SHUTTING_DOWN]
_OPENAI = list(ANSWERS.values())
_NATIVE = [answer for code, answer in ANSWERS.items() if code not in (Code.UNPROCESSABLE, Code.UNSUPPORTED_FIELD)]

# Every API, and those that a path without a prefix may be of, by the body.
_DIALECTS = tuple(
    dict.fromkeys(
        (*(dialect.body for dialect in ROUTES.values()), *(dialect.body for dialect in EMBED_ROUTES.values()))
    )
)
_BY_BODY = tuple({dialect.body: dialect for dialect in ROUTES.values()}.values())

_TEI_BODIES = tuple(dict.fromkeys(kind for route in TEI_ROUTES.values() for kinds in route for kind in kinds))

_EXAMPLES: dict[type[msgspec.Struct], dict[str, Any]] = {
    wire.ScoreRequest: {
        "query": {"text": "What is Python?"},
        "items": [{"text": "Python is a programming language."}, {"text": "Snakes are reptiles."}],
    },
    wire.EncodeRequest: {"items": [{"text": "What is Python?"}], "params": {"output_types": ["dense"]}},
    wire.ExtractRequest: {"items": [{"text": "Guido van Rossum wrote Python."}]},
    RerankFields: {
        "model": _MODEL["example"],
        "query": "What is Python?",
        "documents": ["Python is a programming language.", "Snakes are reptiles."],
        "top_n": 1,
    },
    EmbeddingsRequest: {"model": _MODEL["example"], "input": ["What is Python?"]},
    EmbedFields: {"model": _MODEL["example"], "input": ["What is Python?"]},
    PredictFields: {"model": _MODEL["example"], "inputs": [["What is Python?", "A programming language."]]},
    TokenizeFields: {"model": _MODEL["example"], "inputs": ["What is Python?"]},
    DecodeFields: {"model": _MODEL["example"], "ids": [[101, 2054, 102]]},
}


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 description of the HTTP interface."""
    bodies = (
        *(wire.ScoreRequest, wire.ScoreResponse, wire.EncodeRequest, wire.EncodeResponse, wire.ExtractRequest),
        *(EmbeddingsRequest, EmbedFields, RerankFields, *_DIALECTS, *_TEI_BODIES, ForeignError, PlainError, Info),
        XinferenceAuth,
        *(wire.Model, wire.ModelList, wire.StatusFrame, Error, OpenAIError, ShuttingDown, Refusal),
    )
    _, schemas = msgspec.json.schema_components(bodies, schema_hook=_array, ref_template=_SCHEMA)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SIE",
            "version": __version__,
            "description": "Reranking and embeddings. Requests and answers are each JSON or MessagePack.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/score/{model}": {
                "post": _native("score", "Rank items by relevance to a query", wire.ScoreRequest, wire.ScoreResponse)
            },
            "/v1/encode/{model}": {"post": _native("encode", "Embed items", wire.EncodeRequest, wire.EncodeResponse)},
            "/v1/extract/{model}": {"post": _native("extract", "Refused: no model here extracts", wire.ExtractRequest)},
            **{path.replace(":path", ""): {"post": _rerank(path)} for path in ROUTES},
            **{path: {"post": _embed(path)} for path in EMBED_ROUTES},
            **{path: {"post": _tei(path)} for path in TEI_ROUTES},
            **{
                path: {
                    "get": _operation(
                        name,
                        "The default model, as TEI describes it",
                        {200: _content(Info)},
                        [ANSWERS[Code.UNPROCESSABLE], ANSWERS[Code.UNAUTHORIZED]],
                        error=(ForeignError, PlainError),
                    )
                }
                for path, name in (("/info", "info"), ("/tei/info", "infoTei"))
            },
            **{path: operation for prefix in LISTED for path, operation in _models(prefix).items()},
            **{
                path: {"get": _operation(name, "Whether requests need a key", {200: _content(XinferenceAuth)})}
                for path, name in zip(XINFERENCE_AUTH, ("auth", "authXinference"), strict=True)
            },
            "/healthz": {"get": _operation("healthz", "The process answers", {200: _TEXT})},
            "/readyz": {"get": _operation("readyz", "Start-up and preloads are done", {200: _TEXT, 503: _TEXT})},
            **{
                path: {"get": _operation(name, "As /readyz, for clients of other servers", {200: _TEXT, 503: _TEXT})}
                for path, name in (("/health", "health"), ("/v1/health/ready", "healthReady"), ("/ping", "ping"))
            },
            "/livez": {"get": _operation("livez", "The device threads run", {200: _TEXT, 503: _TEXT})},
            "/ws/status": {
                "get": _operation(
                    "status",
                    "Status frames over a WebSocket, one JSON text every 200 ms",
                    {101: _content(wire.StatusFrame), 403: _content(Refusal), 426: _content(Refusal)},
                    [ANSWERS[Code.UNAUTHORIZED], ANSWERS[Code.QUEUE_FULL]],
                )
            },
            "/metrics": {"get": _operation("metrics", "Prometheus metrics", {200: _TEXT}, _with_status(401))},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "If the server has keys."}},
        },
    }


# Text that is no JSON: probes and metrics.
_TEXT = {"text/plain": {"schema": {"type": "string"}}}


def _native(
    name: str, summary: str, request: type[msgspec.Struct], response: type[msgspec.Struct] | None = None
) -> dict[str, Any]:
    """A route of SIE's own: a model in the path, JSON or MessagePack."""
    found = {} if response is None else {200: _content(response, media=_JSON_OR_MSGPACK)}
    parameters = [_MODEL, *_SCHEDULING]
    return _operation(name, summary, found, _NATIVE, body=request, media=_JSON_OR_MSGPACK, parameters=parameters)


def _embed(path: str) -> dict[str, Any]:
    """An embedding route: JSON, with errors in OpenAI's form at its own path."""
    dialect = EMBED_ROUTES[path]
    own = dialect is OPENAI
    return _operation(
        _named(path, "embed"),
        "Embed texts",
        {200: {"application/json": {"schema": _answer(dialect)}}},
        _OPENAI if own else [*_OPENAI, Answer(429, "QUEUE_FULL")],
        body=EmbeddingsRequest if own else EmbedFields,
        error=OpenAIError if own else PlainError if dialect.plain_errors else ForeignError,
        parameters=_SCHEDULING,
    )


def _tei(path: str) -> dict[str, Any]:
    """A route of TEI that no other API has."""
    bodies, answers = TEI_ROUTES[path]
    return _operation(
        _named(path, "tei"),
        "As text-embeddings-inference",
        {200: {"application/json": {"schema": {"anyOf": [_list(answer) for answer in answers]}}}},
        [*_OPENAI, Answer(429, "QUEUE_FULL")],
        body=bodies,
        error=PlainError,
        parameters=_SCHEDULING,
    )


def _rerank(path: str) -> dict[str, Any]:
    """A rerank route: a body in any API, and an answer in that of the path or of the body."""
    spoken = [ROUTES[path]] if path in PREFIXED else _BY_BODY
    found = {200: {"application/json": {"schema": {"anyOf": [_answer(dialect) for dialect in spoken]}}}}
    return _operation(
        _named(path.removesuffix("/{model:path}"), "rerank"),
        "Rank documents",
        found,
        [*_OPENAI, Answer(429, "QUEUE_FULL")],
        body=RerankFields,
        error=(ForeignError, PlainError),
        parameters=[_MODEL, *_SCHEDULING] if "{model:path}" in path else _SCHEDULING,
    )


def _models(prefix: str) -> dict[str, Any]:
    """The routes that list the models and describe one, under a prefix."""
    error = ForeignError if prefix else Error
    listed, one = _with_status(401), _with_status(401, 404)
    return {
        f"{prefix}/v1/models": {
            "get": _operation(
                _named(f"{prefix}/v1/models", "list"),
                "All models",
                {200: _content(wire.ModelList)},
                listed,
                error=error,
            )
        },
        f"{prefix}/v1/models/{{model}}": {
            "get": _operation(
                _named(f"{prefix}/v1/model", "get"),
                "One model",
                {200: _content(wire.Model)},
                one,
                error=error,
                parameters=[_MODEL],
            )
        },
    }


def _named(path: str, verb: str = "") -> str:
    """The id of the operation at a path."""
    return verb + "".join(part.capitalize() for part in path.split("/"))


def _answer(dialect: Dialect | EmbedDialect) -> dict[str, Any]:
    """The schema of a dialect's answers; of a bare one, that of the only field of its type."""
    return _list(dialect.body) if dialect.bare else {"$ref": _SCHEMA.format(name=dialect.body.__name__)}


def _list(body: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of an answer that is the only field of its type."""
    [field] = msgspec.structs.fields(body)
    [schema], _ = msgspec.json.schema_components((field.type,), ref_template=_SCHEMA)
    return schema


def _operation(
    name: str,
    summary: str,
    answers: Mapping[int, Mapping[str, Any]],
    errors: Iterable[Answer] = (),
    *,
    body: type[msgspec.Struct] | tuple[type[msgspec.Struct], ...] | None = None,
    media: Iterable[str] = _JSON,
    error: type[msgspec.Struct] | tuple[type[msgspec.Struct], ...] = Error,
    parameters: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """An operation. `answers`: by status, what its own responses contain. `error`: the body of all `errors`."""
    responses: dict[str, Any] = {
        str(status): {"description": summary, "content": content} for status, content in answers.items()
    }
    codes: dict[int, set[str]] = {}
    for answer in (*errors, _SHUTTING_DOWN):
        codes.setdefault(answer.status, set()).add(answer.wire)
    for status, names in sorted(codes.items()):
        bodies: list[type[msgspec.Struct]] = []
        if names != {_SHUTTING_DOWN.wire}:
            bodies += error if isinstance(error, tuple) else [error]
        if _SHUTTING_DOWN.wire in names:
            bodies.append(ShuttingDown)
        described = [*(["failing"] if status in answers else []), *sorted(names)]
        content = {**answers.get(status, {}), **_content(*bodies)}
        responses[str(status)] = {"description": ", ".join(described), "content": content}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "parameters": [*parameters]}
    if body is not None:
        read = body if isinstance(body, tuple) else (body,)
        content = _content(*read, media=media)
        content["application/json"]["example"] = _EXAMPLES[read[0]]
        operation["requestBody"] = {"required": True, "content": content}
    return {**operation, "responses": responses, "security": _SECURITY if 401 in codes else []}


def _content(*bodies: type[msgspec.Struct], media: Iterable[str] = _JSON) -> dict[str, Any]:
    """Any of these bodies, in each of the media types."""
    references = [{"$ref": _SCHEMA.format(name=body.__name__)} for body in bodies]
    return {name: {"schema": references[0] if len(references) == 1 else {"anyOf": references}} for name in media}


def _with_status(*statuses: int) -> list[Answer]:
    return [answer for answer in _NATIVE if answer.status in statuses]


def _array(kind: type) -> dict[str, Any]:
    """Schema of a NumPy array; its field adds the type of the elements."""
    if kind is not np.ndarray:
        raise NotImplementedError(f"no schema for {kind}")
    return {"type": "array"}
