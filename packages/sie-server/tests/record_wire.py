"""Writes `wire.json`, what goes over the wire to the byte.

    python packages/sie-server/tests/record_wire.py        # or: make wire

The tests of the server and of both SDKs read it. A request's bytes are those of `msgpack` and `json`, which are not
ours; an answer's are those of the server over an engine that computes nothing (`sie_testing/fake_engine.py`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from sie_testing.fake_engine import BROKEN, EMBEDDER, LOADING, RERANKER, Served, canned

WIRE = Path(__file__).with_name("wire.json")
JSON, MSGPACK = "application/json", "application/msgpack"
ABOUT = [
    "Requests and answers, to the byte. Made by packages/sie-server/tests/record_wire.py; read by the tests of the",
    "server, of the Python SDK and of the TypeScript SDK.",
    "'body' is what a message says, 'json' its JSON and 'msgpack' the hex digits of its MessagePack. All three say the",
    "same; in 'body' and 'json' an array is a list. No 'msgpack': the route has JSON only, as have errors.",
    "'sdk': the call of an SDK that sends exactly this request; no such call where it is missing.",
    "'raises': the exception of both SDKs. 'retry_after': the header, in seconds.",
]
QUERY = {"id": "q1", "text": "What is Python?"}
ITEMS = [
    {"id": "doc-1", "text": "Python is a programming language."},
    {"text": "Ein Python ist eine Würgeschlange 🐍"},
    {"id": "", "text": "", "metadata": {"page": 7, "tags": ["a", None, True], "weight": 0.5}},
]
PAIR = {"items": [{"text": "d"}], "query": {"text": "q"}}


@dataclass(frozen=True)
class Exchange:
    """A request, and what an SDK makes of its answer. Fields of the body in the order in which the SDKs send them."""

    name: str
    path: str
    body: dict[str, Any] | None = None
    sdk: str | None = None
    raises: str | None = None

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"


def exchanges() -> Iterator[Exchange]:
    """Everything that is recorded."""
    score, encode = f"/v1/score/{RERANKER.id}", f"/v1/encode/{EMBEDDER.id}"
    yield Exchange("score", score, {"items": ITEMS, "query": QUERY}, sdk="score")
    options = {"top_k": 2, "return_tokens": True, "score_weights": {"dense": 0.5}}
    asked = {"items": ITEMS, "query": {"text": "q"}, "instruction": "Prefer the language.", "options": options}
    yield Exchange("score with options", score, asked, sdk="score")
    windows = {"items": ITEMS[:1], "query": {"text": "in windows"}, "options": {"long_documents": "chunk_max"}}
    yield Exchange("score in windows", score, windows, sdk="score")
    yield Exchange("score by profile", f"{score}:short", PAIR, sdk="score")
    many = {"items": [{"text": f"{i}"} for i in range(17)], "query": {"text": "q"}}
    yield Exchange("score more items than fit a short array", score, many, sdk="score")

    two = ITEMS[:2]
    yield Exchange("encode", encode, {"items": two}, sdk="encode")
    query = {"instruction": "Find the language.", "options": {"normalize": False, "is_query": True}}
    yield Exchange("encode a query", encode, {"items": [QUERY], "params": query}, sdk="encode")
    for output in ("dense", "sparse", "multivector"):
        yield Exchange(f"encode {output}", encode, {"items": two, "params": {"output_types": [output]}}, sdk="encode")
    every = ["dense", "sparse", "multivector"]
    for dtype in ("float32", "float16", "int8", "uint8", "binary", "ubinary"):
        params = {"output_types": every, "output_dtype": dtype}
        yield Exchange(f"encode as {dtype}", encode, {"items": ITEMS[:1], "params": params}, sdk="encode")

    yield Exchange("models", "/v1/models", sdk="list_models")
    yield Exchange("one model", f"/v1/models/{EMBEDDER.id}", sdk="get_model")

    texts = {"model": EMBEDDER.id, "input": ["a", "b"]}
    yield Exchange("embeddings", "/v1/embeddings", texts)
    yield Exchange("embeddings in base64", "/v1/embeddings", {**texts, "encoding_format": "base64"})
    yield from refused(score, encode)


def refused(score: str, encode: str) -> Iterator[Exchange]:
    """Requests whose answers are errors."""
    for code, raises in {
        "QUEUE_FULL": "ServerError",
        "RESOURCE_EXHAUSTED": "ResourceExhaustedError",
        "GATEWAY_TIMEOUT": "ServerError",
        "INPUT_TOO_LONG": "InputTooLongError",
        "INFERENCE_ERROR": "ServerError",
        "INTERNAL_ERROR": "ServerError",
    }.items():
        yield Exchange(code, score, {"items": [{"text": "d"}], "query": {"text": code}}, "score", raises)
    yield Exchange("MODEL_LOADING", f"/v1/score/{LOADING.id}", PAIR, "score", "ModelLoadingError")
    yield Exchange("MODEL_LOAD_FAILED", f"/v1/score/{BROKEN.id}", PAIR, "score", "ModelLoadFailedError")
    yield Exchange("no such model", "/v1/score/acme/rerankr", PAIR, "score", "RequestError")
    yield Exchange("no such model to look up", "/v1/models/nobody/nothing", None, "get_model", "RequestError")
    yield Exchange("no such profile", f"{score}:long", PAIR, "score", "RequestError")
    profile = {**PAIR, "options": {"profile": "long"}}
    yield Exchange("no such profile in the options", score, profile, "score", "RequestError")
    yield Exchange("no such task", f"/v1/score/{EMBEDDER.id}", PAIR, "score", "RequestError")
    sparse = {"items": [{"text": "d"}], "params": {"output_types": ["sparse"]}}
    yield Exchange("no such output", f"/v1/encode/{RERANKER.id}", sparse, "encode", "RequestError")
    dtype = {"items": [{"text": "d"}], "params": {"output_dtype": "int4"}}
    yield Exchange("no such dtype", encode, dtype, "encode", "RequestError")
    yield Exchange("no text", score, {"items": [{"id": "x"}], "query": {"text": "q"}}, "score", "RequestError")
    yield Exchange("no items", score, {"items": [], "query": {"text": "q"}}, "score", "RequestError")
    yield Exchange("no query", score, {"items": []}, raises="RequestError")
    yield Exchange("no object", score, {"items": ["text"], "query": {"text": "q"}}, raises="RequestError")
    yield Exchange("no string", score, {"items": [{"text": 1}], "query": {"text": "q"}}, "score", "RequestError")
    large = {"items": [{"text": "x" * 700}], "query": {"text": "q"}}
    yield Exchange("too large a body", score, large, "score", "InputTooLongError")
    yield Exchange("no such route", "/v1/nothing", raises="RequestError")
    yield Exchange("no such method", score, raises="RequestError")
    none = {"model": EMBEDDER.id, "input": []}
    yield Exchange("embeddings of nothing", "/v1/embeddings", none, raises="RequestError")
    yield Exchange("embeddings without a model", "/v1/embeddings", {"input": "a"}, raises="RequestError")
    unknown = {"model": "acme/embeddr", "input": "a"}
    yield Exchange("embeddings by no such model", "/v1/embeddings", unknown, raises="RequestError")
    cut = {"model": EMBEDDER.id, "input": "a", "dimensions": 4}
    yield Exchange("embeddings of another width", "/v1/embeddings", cut, raises="RequestError")


def compact(body: Any) -> str:
    """JSON without a space."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def recorded(exchange: Exchange, ask: Served) -> dict[str, Any]:
    """An exchange with its bytes, as `wire.json` has it."""
    entry: dict[str, Any] = {"name": exchange.name, "method": exchange.method, "path": exchange.path}
    native = exchange.path.startswith(("/v1/score", "/v1/encode"))
    sent = None
    if exchange.body is not None:
        sent = compact(exchange.body)
        entry["request"] = {"body": exchange.body, "json": sent}
        if native:
            entry["request"]["msgpack"] = msgpack.packb(exchange.body).hex()
    answer = ask(exchange.method, exchange.path, sent and sent.encode(), JSON, JSON)
    entry["status"] = answer.status_code
    entry["answer"] = {"body": answer.json(), "json": answer.text}
    if native and answer.is_success:
        entry["answer"]["msgpack"] = ask(exchange.method, exchange.path, sent.encode(), JSON, MSGPACK).content.hex()
    if (seconds := answer.headers.get("retry-after")) is not None:
        entry["retry_after"] = seconds
    return entry | {name: value for name in ("sdk", "raises") if (value := getattr(exchange, name)) is not None}


def text(entries: list[dict[str, Any]]) -> str:
    """The file: a field per line, so that a difference can be read."""
    separator = ",\n    "

    def lines(fields: dict[str, Any], indent: str) -> str:
        parts = (
            f'"{name}": {lines(value, indent + "  ") if name in ("request", "answer") else compact(value)}'
            for name, value in fields.items()
        )
        return "{\n" + indent + f",\n{indent}".join(parts) + "\n" + indent[:-2] + "}"

    listed = separator.join(lines(entry, "      ") for entry in entries)
    return f'{{\n  "about": {json.dumps(ABOUT, indent=4)},\n  "exchanges": [\n    {listed}\n  ]\n}}\n'


def main() -> None:
    with canned() as ask:
        WIRE.write_text(text([recorded(exchange, ask) for exchange in exchanges()]), "utf-8")


if __name__ == "__main__":
    main()
