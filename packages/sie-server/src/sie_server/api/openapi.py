"""The OpenAPI document, from the same types that decode requests."""

from collections.abc import Collection, Iterable
from typing import Any, get_args

import msgspec

from sie_server import __version__, wire
from sie_server.api.scheduling_headers import PRIORITY, TIMEOUT
from sie_server.errors import ANSWERS, Answer, Code
from sie_server.options import Priority, Score
from sie_server.residency.slot import State

_ENCODINGS = ("application/json", "application/msgpack")


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 description of the HTTP interface."""
    bodies = (
        *(wire.ScoreRequest, wire.EncodeRequest, wire.ScoreResponse),
        *(wire.ExtractRequest, wire.RerankRequest, wire.RerankResponse),
        *(wire.EmbeddingsRequest, wire.EmbeddingsResponse),
    )
    _, schemas = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    schemas |= _WRITTEN_BY_HAND
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SIE",
            "version": __version__,
            "description": "Reranking and embeddings. Bodies are JSON or MessagePack, each way on its own.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/score/{model}": {"post": _operation("score", "Rank items by relevance to a query", "Score")},
            "/v1/encode/{model}": {"post": _operation("encode", "Embed items", "Encode")},
            "/v1/extract/{model}": {"post": _operation("extract", "Refused: no model here extracts", "Extract")},
            "/v1/rerank": {"post": _dialect("rerank", "Rank documents, as Cohere's route of this name", "Rerank")},
            "/v1/embeddings": {
                "post": _dialect("embeddings", "Embed texts, as OpenAI's route of this name", "Embeddings")
            },
            "/v1/models": {"get": _get("listModels", "All models", "ModelList", errors=(401,))},
            "/v1/models/{model}": {
                "get": _get("getModel", "One model", "Model", parameters=[_MODEL], errors=(401, 404))
            },
            "/healthz": {"get": _plain("healthz", "The process answers")},
            "/readyz": {"get": _plain("readyz", "Start-up and preloads are done", 503)},
            "/livez": {"get": _plain("livez", "The device threads run", 503)},
            "/metrics": {"get": _plain("metrics", "Prometheus metrics", errors=(401,))},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "Where keys are set."}},
        },
    }


_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "Model id; its slash may be sent as it is or as %2F.",
    "schema": {"type": "string", "minLength": 1},
    "example": "sentence-transformers/all-MiniLM-L6-v2",
}

# A key where the server has some, and nothing where it has none.
_SECURITY: list[dict[str, list[str]]] = [{}, {"key": []}]
_ANSWERED = ("Score", "Encode")

_TERMS = [
    {
        "name": TIMEOUT,
        "in": "header",
        "description": "Seconds, with decimals, until nobody waits for the answer any more. Refused at once where that "
        "is too little.",
        "schema": {"type": "number", "minimum": 0},
    },
    {
        "name": PRIORITY,
        "in": "header",
        "description": "Who is served first while there is more to do than can be done.",
        "schema": {"enum": [*get_args(Priority)], "default": "normal"},
    },
]

# Without those of the route that is OpenAI's.
_NATIVE = [answer for code, answer in ANSWERS.items() if code not in (Code.UNPROCESSABLE, Code.UNSUPPORTED_FIELD)]

_EXAMPLES: dict[str, Any] = {
    "score": {
        "query": {"text": "What is Python?"},
        "items": [{"text": "Python is a programming language."}, {"text": "Snakes are reptiles."}],
    },
    "encode": {"items": [{"text": "What is Python?"}], "params": {"output_types": ["dense"]}},
}

_EXAMPLES["extract"] = {"items": [{"text": "Guido van Rossum wrote Python."}]}
_EXAMPLES["rerank"] = {
    "model": _MODEL["example"],
    "query": "What is Python?",
    "documents": ["Python is a programming language.", "Snakes are reptiles."],
    "top_n": 1,
}
_EXAMPLES["embeddings"] = {"model": _MODEL["example"], "input": ["What is Python?"]}

_NUMBERS = {"type": "array", "items": {"type": "number"}}

_WRITTEN_BY_HAND: dict[str, Any] = {
    "EncodeResponse": {
        "type": "object",
        "required": ["model", "items", "timing", "usage"],
        "properties": {
            "model": {"type": "string"},
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "dense": {
                            "type": "object",
                            "required": ["dims", "dtype", "values"],
                            "properties": {
                                "dims": {"type": "integer"},
                                "dtype": {"type": "string"},
                                "values": _NUMBERS,
                            },
                        },
                        "sparse": {
                            "type": "object",
                            "required": ["dims", "dtype", "indices", "values"],
                            "properties": {
                                "dims": {"type": ["integer", "null"]},
                                "dtype": {"type": "string"},
                                "indices": {"type": "array", "items": {"type": "integer"}},
                                "values": _NUMBERS,
                            },
                        },
                        "multivector": {
                            "type": "object",
                            "required": ["token_dims", "num_tokens", "dtype", "values"],
                            "properties": {
                                "token_dims": {"type": "integer"},
                                "num_tokens": {"type": "integer"},
                                "dtype": {"type": "string"},
                                "values": {"type": "array", "items": _NUMBERS},
                            },
                        },
                    },
                },
            },
            "timing": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
            "usage": {"$ref": "#/components/schemas/Usage"},
        },
    },
    "Model": {
        "type": "object",
        "required": ["name", "inputs", "outputs", "dims", "loaded", "state", "max_sequence_length", "profiles"],
        "properties": {
            "name": {"type": "string"},
            "inputs": {"type": "array", "items": {"type": "string"}},
            "outputs": {"type": "array", "items": {"type": "string"}},
            "dims": {"type": "object", "additionalProperties": {"type": "integer"}},
            "loaded": {"type": "boolean"},
            "state": {"enum": list(get_args(State))},
            "last_error": {"type": ["object", "null"]},
            "max_sequence_length": {"type": ["integer", "null"]},
            "profiles": {"type": "object"},
            "revision": {"type": ["string", "null"]},
            "score": {
                "enum": [*get_args(Score), None],
                "description": "What a score of this model is.",
            },
            "license": {"type": ["string", "null"]},
        },
    },
    "ModelList": {
        "type": "object",
        "required": ["models"],
        "properties": {"models": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}},
    },
    "Error": {
        "type": "object",
        "required": ["detail"],
        "properties": {
            "detail": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"enum": sorted({answer.wire for answer in _NATIVE})},
                    "message": {"type": "string"},
                },
            }
        },
    },
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"enum": ["invalid_request_error", "server_error"]},
                    "param": {"type": ["string", "null"]},
                    "code": {"enum": sorted({answer.wire for answer in ANSWERS.values()})},
                },
            }
        },
    },
}


def _operation(name: str, summary: str, types: str) -> dict[str, Any]:
    def content(schema: str) -> dict[str, Any]:
        return {encoding: {"schema": {"$ref": f"#/components/schemas/{schema}"}} for encoding in _ENCODINGS}

    body = content(f"{types}Request")
    body["application/json"]["example"] = _EXAMPLES[name]
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [_MODEL, *_TERMS],
        "requestBody": {"required": True, "content": body},
        "responses": {
            **({"200": {"description": summary, "content": content(f"{types}Response")}} if types in _ANSWERED else {}),
            **_errors(_NATIVE),
        },
        "security": _SECURITY,
    }


def _get(
    name: str, summary: str, schema: str, parameters: list[Any] | None = None, errors: Collection[int] = ()
) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {
            "200": {"description": summary, "content": content},
            **_errors(answer for answer in _NATIVE if answer.status in errors),
        },
        "security": _SECURITY if 401 in errors else [],
    }


def _plain(name: str, summary: str, *others: int, errors: Collection[int] = ()) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            **{str(status): {"description": summary, "content": content} for status in (200, *others)},
            **_errors(answer for answer in _NATIVE if answer.status in errors),
        },
        "security": _SECURITY if 401 in errors else [],
    }


def _dialect(name: str, summary: str, types: str) -> dict[str, Any]:
    def content(schema: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}

    body = content(f"{types}Request")
    body["application/json"]["example"] = _EXAMPLES[name]
    return {
        "operationId": name,
        "summary": summary,
        "parameters": _TERMS,
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": summary, "content": content(f"{types}Response")},
            **_errors(ANSWERS.values(), "OpenAIError"),
        },
        "security": _SECURITY,
    }


def _errors(answers: Iterable[Answer], schema: str = "Error") -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    codes: dict[int, set[str]] = {}
    for answer in answers:
        codes.setdefault(answer.status, set()).add(answer.wire)
    return {
        str(status): {"description": ", ".join(sorted(names)), "content": content}
        for status, names in sorted(codes.items())
    }
