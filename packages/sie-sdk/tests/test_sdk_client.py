"""Requests that the clients send, and results that they return. Every test runs with both clients."""

import asyncio
from types import MappingProxyType

import httpx2
import numpy as np
import pydantic
import pytest
from sdk_stand_ins import BASE_URL, SCORED, Server, packed

from sie_sdk import IgnoredOptionWarning, SIEAsyncClient, SIEClient, errors
from sie_sdk._version import CONTRACT_VERSION
from sie_sdk.types import Item

QUERY, ITEMS = Item(text="q"), [Item(text="a"), Item(id="b", text="b")]
MODELS = {"models": [{"name": "m", "loaded": True, "new_key": 1}]}


def encoded(*items, **body):
    return packed({"model": "m", "items": list(items), "timing": {"total_ms": 1.5}, **body})


def dense(*numbers, **fields):
    values = np.array(numbers, "<f4")
    return {"dense": {"dims": values.size, "dtype": "float32", "values": values}, **fields}


def test_score_request(connect):
    server = Server(packed(SCORED))
    connect(server, api_key="k").score("BAAI/bge-reranker-v2-m3", Item(id="q1", text="é"), ITEMS)
    (request,) = server.requests
    assert request.method == "POST"
    assert str(request.url) == "http://sie.test:8080/v1/score/BAAI/bge-reranker-v2-m3"
    assert request.headers["content-type"] == request.headers["accept"] == "application/msgpack"
    assert request.headers["x-sie-sdk-version"] == CONTRACT_VERSION
    assert request.headers["x-sie-model"] == "BAAI/bge-reranker-v2-m3"
    assert request.headers["authorization"] == "Bearer k"
    assert "x-sie-pool" not in request.headers
    assert "x-sie-machine-profile" not in request.headers
    assert server.sent == {"query": {"id": "q1", "text": "é"}, "items": [{"text": "a"}, {"id": "b", "text": "b"}]}


def test_score_arguments(connect):
    server = Server(packed(SCORED))
    connect(server, options={"profile": "fast", "top_k": 3}).score(
        "m", QUERY, tuple(ITEMS), instruction="Be strict.", options={"top_k": 5}
    )
    assert server.sent["instruction"] == "Be strict."
    assert server.sent["options"] == {"profile": "fast", "top_k": 5}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("BAAI/bge-m3:sparse", "/v1/score/BAAI/bge-m3:sparse"),
        ("a b?c#d%2F", "/v1/score/a%20b%3Fc%23d%252F"),
        ("模型", "/v1/score/%E6%A8%A1%E5%9E%8B"),
    ],
)
def test_model_in_path(connect, model, path):
    server = Server(packed(SCORED))
    connect(server).score(model, QUERY, ITEMS)
    assert server.requests[0].url.raw_path.decode() == path


@pytest.mark.parametrize("model", ["", "/", "a//b", "../models", "a/./b", "\ud800"])
def test_an_invalid_model_id(connect, model):
    server = Server(packed(SCORED))
    with pytest.raises(ValueError, match="model"):
        connect(server).score(model, QUERY, ITEMS)
    assert server.requests == []


def test_score_result_is_passed_through(connect):
    entry = {"item_id": "", "score": 1.0 / 3.0, "rank": 0, "truncated": True, "tokens": 9}
    body = {"model": "m", "query_id": "q1", "scores": [entry], "usage": {"input_tokens": 12}, "new": [1]}
    assert connect(Server(packed(body))).score("m", QUERY, ITEMS) == body


def test_score_result_without_query_id(connect):
    result = connect(Server(packed(SCORED))).score("m", QUERY, ITEMS)
    assert result == {"model": "m", "scores": SCORED["scores"]}


def test_request_info_and_revision(connect):
    client = connect(Server(packed(SCORED, **{"x-sie-request-id": "r", "x-sie-model-revision": "abc"})))
    assert client.last_model_revision is None
    assert client.score("m", QUERY, ITEMS)["request"] == {"id": "r", "model_revision": "abc"}
    assert client.last_model_revision == "abc"


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"model": "m", "scores": None},
        {"scores": []},
        {"model": "m", "scores": [1]},
        {"model": "m", "scores": [{"item_id": "a", "score": 1.0}]},
        {"model": "m", "scores": [{"item_id": None, "score": 1.0, "rank": 0}]},
        {"model": "m", "scores": [{"item_id": "a", "score": "1", "rank": 0}]},
    ],
)
def test_a_response_without_a_ranking(connect, body):
    with pytest.raises(errors.RequestError, match=r"Malformed score MessagePack response \("):
        connect(Server(packed(body))).score("m", QUERY, ITEMS)


def test_json_where_messagepack_was_asked_for(connect):
    with pytest.raises(errors.RequestError, match="Malformed score MessagePack response"):
        connect(Server(httpx2.Response(200, json=SCORED))).score("m", QUERY, ITEMS)


def test_encode_request(connect):
    server = Server(encoded(dense(1.0)))
    connect(server, options={"normalize": True}).encode(
        "m",
        QUERY,
        output_types=["dense", "multivector"],
        output_dtype="int8",
        instruction="I",
        is_query=True,
        options={"profile": "p"},
    )
    assert str(server.requests[0].url) == "http://sie.test:8080/v1/encode/m"
    assert server.sent == {
        "items": [{"text": "q"}],
        "params": {
            "output_types": ["dense", "multivector"],
            "output_dtype": "int8",
            "instruction": "I",
            "options": {"normalize": True, "profile": "p", "is_query": True},
        },
    }


def test_encode_without_params(connect):
    server = Server(encoded(dense(1.0)))
    connect(server).encode("m", QUERY)
    assert server.sent == {"items": [{"text": "q"}]}


def test_is_query_false_is_sent(connect):
    server = Server(encoded(dense(1.0)))
    connect(server, options={"is_query": True}).encode("m", QUERY, is_query=False)
    assert server.sent["params"] == {"options": {"is_query": False}}


def test_is_query_argument_beats_the_option(connect):
    server = Server(encoded(dense(1.0)))
    connect(server).encode("m", QUERY, is_query=True, options={"is_query": False})
    assert server.sent["params"] == {"options": {"is_query": True}}


def test_encode_result(connect):
    entry = dense(0.5, 1.5, id="x") | {
        "sparse": {
            "dims": 9,
            "dtype": "float32",
            "indices": np.array([3, 7], "<i4"),
            "values": np.array([1, 2], "<f4"),
        },
        "multivector": {
            "token_dims": 2,
            "num_tokens": 3,
            "dtype": "float16",
            "values": np.arange(6, dtype="<f2").reshape(3, 2),
        },
    }
    result = connect(Server(encoded(entry))).encode("m", QUERY)
    assert result.keys() == {"id", "dense", "sparse", "multivector", "model", "timing"}
    assert (result["id"], result["model"], result["timing"]) == ("x", "m", {"total_ms": 1.5})
    np.testing.assert_array_equal(result["dense"], np.array([0.5, 1.5], "<f4"), strict=True)
    np.testing.assert_array_equal(result["sparse"]["indices"], np.array([3, 7], "<i4"), strict=True)
    np.testing.assert_array_equal(result["sparse"]["values"], np.array([1, 2], "<f4"), strict=True)
    np.testing.assert_array_equal(result["multivector"], np.array([[0, 1], [2, 3], [4, 5]], "<f2"), strict=True)


def test_encode_list_keeps_order(connect):
    results = connect(Server(encoded(dense(1.0), dense(2.0, id="b")))).encode("m", ITEMS)
    assert [result["dense"].tolist() for result in results] == [[1.0], [2.0]]
    assert [result.get("id") for result in results] == [None, "b"]


def test_encode_list_of_one_is_a_list(connect):
    assert isinstance(connect(Server(encoded(dense(1.0)))).encode("m", [QUERY]), list)


def test_incomplete_batch(connect):
    server = Server(packed({"model": "m", "items": [dense(1.0, id="x")]}, **{"x-sie-request-id": "r"}))
    with pytest.raises(errors.IncompleteBatchError) as caught:
        connect(server).encode("m", [Item(id="x", text="1"), Item(id="y", text="2"), Item(text="3")])
    error = caught.value
    assert (error.expected, error.received, error.missing_ids, error.request_id) == (3, 1, ["y"], "r")
    assert error.results[0]["dense"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dense": {"values": [1.0]}}, "Expected numpy array from msgpack-numpy"),
        ({"dense": [1.0]}, "Expected numpy array from msgpack-numpy"),
        ({"dense": {"values": {"nd": True}}}, "Expected numpy array from msgpack-numpy"),
        ({"dense": {"values": np.zeros((1, 2), "<f4")}}, "dense.values must have 1 dimensions, got 2"),
        ({"multivector": {"values": np.zeros(2, "<f4")}}, "multivector.values must have 2 dimensions, got 1"),
        ({"sparse": {"indices": np.zeros(1, "<i4"), "values": np.zeros(2, "<f4")}}, "1 indices but 2 values"),
    ],
)
def test_a_response_without_embeddings(connect, entry, message):
    with pytest.raises(errors.RequestError, match=message):
        connect(Server(encoded(entry))).encode("m", QUERY)


def test_extract(connect):
    server = Server(packed({"model": "m", "items": [{"id": "item-0", "entities": [{"text": "x"}]}]}))
    result = connect(server).extract("m", QUERY, labels=("person",), output_schema={"a": 1})
    assert str(server.requests[0].url) == "http://sie.test:8080/v1/extract/m"
    assert server.sent["params"] == {"labels": ["person"], "output_schema": {"a": 1}}
    assert result == {"id": "item-0", "entities": [{"text": "x"}]}


def test_options_of_the_client_reach_extract(connect):
    server = Server(packed({"model": "m", "items": [{"id": "item-0"}]}))
    connect(server, options={"a": 1, "b": 1}).extract("m", QUERY, instruction="I", options={"b": 2})
    assert server.sent["params"] == {"instruction": "I", "options": {"a": 1, "b": 2}}


def test_incomplete_extraction(connect):
    with pytest.raises(errors.IncompleteBatchError, match="1 results for 2 items"):
        connect(Server(packed({"model": "m", "items": [{"id": "item-0"}]}))).extract("m", ITEMS)


def test_models(connect):
    server = Server(httpx2.Response(200, json=MODELS), httpx2.Response(200, json=MODELS["models"][0]))
    client = connect(server)
    assert client.list_models() == MODELS["models"]
    assert client.get_model("a/b") == MODELS["models"][0]
    assert [str(request.url.path) for request in server.requests] == ["/v1/models", "/v1/models/a/b"]
    assert {request.method for request in server.requests} == {"GET"}
    assert {request.headers["accept"] for request in server.requests} == {"application/json"}


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"models": [1]}', b"\xff", b"[" * 9999])
def test_a_response_without_models(connect, content):
    with pytest.raises(errors.RequestError, match="Malformed models JSON response"):
        connect(Server(httpx2.Response(200, content=content))).list_models()


@pytest.mark.parametrize("items", [Item(text="lone"), "text", b"text"])
def test_score_needs_a_list(connect, items):
    with pytest.raises(TypeError, match="items must be a list of Items or texts"):
        connect(Server()).score("m", QUERY, items)


def test_a_text_is_an_item(connect):
    ranking, embeddings = Server(packed(SCORED)), Server(encoded(dense(1.0)))
    connect(ranking).score("m", "q", ["a", Item(id="b", text="b")])
    assert ranking.sent == {"query": {"text": "q"}, "items": [{"text": "a"}, {"id": "b", "text": "b"}]}
    client = connect(embeddings)
    assert client.encode("m", "q")["dense"] == [1.0]
    assert embeddings.sent == {"items": [{"text": "q"}]}
    assert [result["dense"] for result in client.encode("m", ["q"])] == [[1.0]]
    assert [result["dense"] for result in client.encode_stream("m", iter(["q"]))] == [[1.0]]


def test_top_k(connect):
    server = Server(packed(SCORED))
    connect(server, options={"top_k": 3, "a": 1}).score("m", QUERY, ITEMS, top_k=1, options={"top_k": 2})
    assert server.sent["options"] == {"top_k": 1, "a": 1}


def test_an_option_that_the_server_ignored_is_named_once(connect):
    server = Server(packed(SCORED, **{"x-sie-ignored": "options.topk, options.trunc"}), packed(SCORED))
    client = connect(server)
    with pytest.warns(IgnoredOptionWarning) as caught:
        client.score("m", QUERY, ITEMS, options={"topk": 1, "trunc": 2})
    assert [str(warning.message) for warning in caught] == [
        "the server does not know options.topk, and ignored it",
        "the server does not know options.trunc, and ignored it",
    ]
    server.answers = [packed(SCORED, **{"x-sie-ignored": "options.topk,options.new"})]
    with pytest.warns(IgnoredOptionWarning) as caught:
        assert [client.score("m", QUERY, ITEMS)["model"] for _ in range(2)] == ["m", "m"]
    assert [str(warning.message) for warning in caught] == ["the server does not know options.new, and ignored it"]


def test_the_warning_of_an_ignored_option_is_at_the_line_of_the_call():
    transport = httpx2.MockTransport(Server(packed(SCORED, **{"x-sie-ignored": "options.topk"})))

    async def main():
        async with SIEAsyncClient(BASE_URL, http_client=httpx2.AsyncClient(transport=transport)) as client:
            await client.score("m", QUERY, ITEMS)

    client = SIEClient(BASE_URL, http_client=httpx2.Client(transport=transport))
    with pytest.warns(IgnoredOptionWarning) as caught:
        client.score("m", QUERY, ITEMS)
    with pytest.warns(IgnoredOptionWarning) as caught_in_task:
        asyncio.run(main())
    assert [warning.filename for warning in [*caught, *caught_in_task]] == [__file__, __file__]


class Passage(pydantic.BaseModel):
    id: str | None = None
    text: str
    metadata: dict[str, object] = {}


@pytest.mark.parametrize(
    "item",
    [
        Item(id="a", text="x"),
        {"id": "a", "text": "x"},
        {"id": "a", "text": "x", "column": 7},
        MappingProxyType({"id": "a", "text": "x"}),
        Passage(id="a", text="x", metadata={"page": 7}).model_dump(),
        Passage(text="x").model_dump(),
    ],
    ids=repr,
)
def test_any_mapping_is_an_item(connect, item):
    ranking, embeddings = Server(packed(SCORED)), Server(encoded(dense(1.0)))
    connect(ranking).score("m", item, [item])
    connect(embeddings).encode("m", item)
    assert ranking.sent == {"query": dict(item), "items": [dict(item)]}
    assert embeddings.sent == {"items": [dict(item)]}
