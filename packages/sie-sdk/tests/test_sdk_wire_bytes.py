"""Bytes on the wire: the clients send and read the requests and responses recorded in the server's `wire.json`."""

import base64
import json
from pathlib import Path

import httpx2
import msgspec
import numpy as np
import pytest
from sdk_stand_ins import Server

from sie_sdk import errors
from sie_sdk._core import codec
from sie_sdk.types import ModelInfo

WIRE = Path(__file__).parents[2] / "sie-server" / "tests" / "wire.json"
EXCHANGES = json.loads(WIRE.read_text("utf-8"))["exchanges"]
BY_SDK = [exchange for exchange in EXCHANGES if "sdk" in exchange]


def rows(exchanges):
    return pytest.mark.parametrize("exchange", exchanges, ids=lambda exchange: exchange["name"])


def answer(exchange):
    said = exchange["answer"]
    content = bytes.fromhex(said["msgpack"]) if "msgpack" in said else said["json"].encode()
    headers = {"retry-after": exchange["retry_after"]} if "retry_after" in exchange else {}
    return httpx2.Response(exchange["status"], content=content, headers=headers)


def call(client, exchange):
    """Returns the SDK call that sends the request of an exchange, or any call that gets its response."""
    model = "/".join(exchange["path"].split("/")[3:])
    sdk, body = exchange.get("sdk", "score"), exchange.get("request", {}).get("body", {})
    if sdk == "list_models":
        return client.list_models()
    if sdk == "get_model":
        return client.get_model(model)
    if sdk == "encode":
        params = dict(body.get("params", {}))
        options = dict(params.pop("options", {}))
        is_query = options.pop("is_query", None)
        return client.encode(model, body["items"], is_query=is_query, options=options, provision_timeout_s=0, **params)
    if "sdk" not in exchange:
        return client.score("m", {"text": "q"}, [{"text": "d"}], provision_timeout_s=0)
    named = {name: body[name] for name in ("instruction", "options") if name in body}
    return client.score(model, body["query"], body["items"], provision_timeout_s=0, **named)


@rows(BY_SDK)
def test_requests(connect, exchange):
    server = Server(answer(exchange))
    try:
        call(connect(server), exchange)
    except errors.SIEError:
        assert "raises" in exchange
    [request] = server.requests
    assert (request.method, request.url.path) == (exchange["method"], exchange["path"])
    assert request.content.hex() == exchange.get("request", {}).get("msgpack", "")


@rows([exchange for exchange in BY_SDK if exchange["sdk"] == "score" and "raises" not in exchange])
def test_rankings(connect, exchange):
    said = dict(exchange["answer"]["body"])
    if said["query_id"] is None:
        del said["query_id"]
    assert call(connect(Server(answer(exchange))), exchange) == said


@rows([exchange for exchange in BY_SDK if exchange["sdk"] == "encode" and "raises" not in exchange])
def test_embeddings(connect, exchange):
    said = exchange["answer"]["body"]
    for result, item in zip(call(connect(Server(answer(exchange))), exchange), said["items"], strict=True):
        assert (result["model"], result["timing"]) == (said["model"], said["timing"])
        assert result.get("id") == item.get("id")
        assert result.keys() - {"model", "timing"} == item.keys()
        for kind in ("dense", "multivector"):
            if kind in item:
                assert_array(result[kind], item[kind]["values"], asked_dtype(exchange))
        if "sparse" in item:
            assert_array(result["sparse"]["indices"], item["sparse"]["indices"], np.int32)
            assert_array(result["sparse"]["values"], item["sparse"]["values"], item["sparse"]["dtype"])


def asked_dtype(exchange):
    dtype = exchange["request"]["body"].get("params", {}).get("output_dtype", "float32")
    return {"binary": "uint8", "ubinary": "uint8"}.get(dtype, dtype)


def assert_array(array, values, dtype):
    np.testing.assert_array_equal(array, np.array(values, dtype), strict=True)


def test_models(connect):
    [listed] = [exchange for exchange in BY_SDK if exchange["sdk"] == "list_models"]
    [one] = [exchange for exchange in BY_SDK if exchange["sdk"] == "get_model" and "raises" not in exchange]
    models = call(connect(Server(answer(listed))), listed)
    assert models == listed["answer"]["body"]["models"]
    assert call(connect(Server(answer(one))), one) in models
    of_others = {"id", "object", "created", "owned_by", "model_type"}  # of OpenAI's and Xinference's clients
    for model in models:
        own = {key: value for key, value in model.items() if key not in of_others}
        assert msgspec.convert(model, ModelInfo) == own
        assert {"name", "outputs", "dims", "state", "last_error", "max_sequence_length"} <= model.keys()


@rows([exchange for exchange in EXCHANGES if "raises" in exchange])
def test_errors(connect, exchange):
    with pytest.raises(errors.SIEError) as caught:
        call(connect(Server(answer(exchange))), exchange)
    error, body = caught.value, exchange["answer"]["body"]
    said = body["error"] if "error" in body else body["detail"]
    fields = {"message": said} if isinstance(said, str) else said
    assert type(error).__name__ == exchange["raises"]
    assert str(error).startswith(fields["message"])
    assert error.status_code == exchange["status"]
    for name in ("code", "param", "error_class", "attempts", "permanent"):
        assert getattr(error, name, None) == fields.get(name)
    if isinstance(error, errors.ServerError):
        assert error.retry_after == (float(exchange["retry_after"]) if "retry_after" in exchange else None)


def test_embeddings_of_the_route_like_openais_are_those_of_encode(connect):
    encode, plain, base = (
        next(exchange for exchange in EXCHANGES if exchange["name"] == name)
        for name in ("encode", "embeddings", "embeddings in base64")
    )
    results = call(connect(Server(answer(encode))), encode)
    for exchange, written in ((plain, np.ndarray.tolist), (base, lambda v: base64.b64encode(v.tobytes()).decode())):
        embeddings = [
            {"index": i, "embedding": written(result["dense"]), "object": "embedding"}
            for i, result in enumerate(results)
        ]
        assert json.loads(exchange["answer"]["json"])["data"] == embeddings


@rows(EXCHANGES)
def test_all_forms_of_a_message_say_the_same(exchange):
    for message in (exchange.get("request"), exchange["answer"]):
        if message is None:
            continue
        assert msgspec.json.encode(message["body"]).decode() == message["json"]
        if "msgpack" in message:
            said = codec.decode(bytes.fromhex(message["msgpack"]), "recorded")
            assert msgspec.json.encode(said, enc_hook=np.ndarray.tolist).decode() == message["json"]
            assert codec.encode(said).hex() == message["msgpack"]
