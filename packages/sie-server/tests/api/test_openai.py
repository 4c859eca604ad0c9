"""POST /v1/embeddings, as a client of OpenAI's API sees it."""

import base64
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import torch
from jsonschema_rs import Draft202012Validator
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sie_server.api.embed_dialects.token_ids import TokenIdReader
from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Precision
from sie_testing.serving import EMBEDDED, Server, connect, in_process, metric

TEXTS = ["python is a programming language", "snakes", "who made it"]
MODELS = pytest.mark.parametrize("model", [EMBEDDED, "bert-encoder"])


def post(api: httpx2.Client, given: Any, model: str = EMBEDDED, **fields: Any) -> httpx2.Response:
    answer = api.post("/v1/embeddings", json={"model": model, "input": given, **fields})
    document = api.get("/openapi.json").json()
    response = document["paths"]["/v1/embeddings"]["post"]["responses"][str(answer.status_code)]
    schema = response["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())
    return answer


def embed(api: httpx2.Client, given: Any, model: str = EMBEDDED, **fields: Any) -> NDArray[np.float32]:
    answer = post(api, given, model, **fields)
    assert answer.status_code == 200, answer.text
    return np.array([entry["embedding"] for entry in answer.json()["data"]], np.float32)


def encode(api: httpx2.Client, texts: list[str], model: str = EMBEDDED, **params: Any) -> NDArray[np.float32]:
    """What the native route gives."""
    items = [{"text": text} for text in texts]
    answer = api.post(f"/v1/encode/{model}", json={"items": items, "params": params}).json()
    return np.array([item["dense"]["values"] for item in answer["items"]], np.float32)


def refusal(answer: httpx2.Response) -> tuple[int, str, str | None, str]:
    """Status, code, param and message of an error in OpenAI's shape."""
    body = answer.json()
    assert body.keys() == {"error"}
    kind = "server_error" if answer.status_code >= 500 else "invalid_request_error"
    assert body["error"]["type"] == kind
    return answer.status_code, body["error"]["code"], body["error"]["param"], body["error"]["message"]


@MODELS
def test_the_answer_is_openai_s_and_the_values_are_encode_s(api: httpx2.Client, model: str) -> None:
    answer = post(api, TEXTS, model, user="someone", unknown=1)
    body = answer.json()
    assert body.keys() == {"object", "data", "model", "usage"}
    assert (body["object"], body["model"]) == ("list", model)
    assert [(entry["object"], entry["index"]) for entry in body["data"]] == [("embedding", i) for i in range(3)]
    items = [{"text": text} for text in TEXTS]
    tokens = api.post(f"/v1/encode/{model}", json={"items": items}).json()["usage"]["input_tokens"]
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens, "sie_token_source": "worker"}
    assert [entry["embedding"] for entry in body["data"]] == encode(api, TEXTS, model).tolist()
    assert float(answer.headers["x-total-time"]) > 0


@pytest.mark.parametrize("accept", ["application/msgpack", "*/*"])
def test_json_whatever_is_accepted_or_sent(api: httpx2.Client, accept: str) -> None:
    headers = {"Accept": accept, "Content-Type": "application/msgpack"}
    body = f'{{"model": "{EMBEDDED}", "input": "snakes"}}'
    answer = api.post("/v1/embeddings", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


def test_one_text_is_a_list_of_one(api: httpx2.Client) -> None:
    assert np.array_equal(embed(api, "snakes"), embed(api, ["snakes"]))


@MODELS
def test_base64_is_little_endian_float32(api: httpx2.Client, model: str) -> None:
    entries = post(api, TEXTS, model, encoding_format="base64").json()["data"]
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"], validate=True), "<f4") for entry in entries]
    assert np.array_equal(np.stack(decoded), embed(api, TEXTS, model, encoding_format="float"))


@pytest.fixture(scope="module")
def trusting(models: Path) -> Iterator[httpx2.Client]:
    """A client of a server that takes token ids for those of the model's own tokenizer."""
    with (
        in_process(model=(str(models / "bert-encoder"),), token_ids="model") as running,
        connect(running.url) as client,
    ):
        yield client


@pytest.mark.parametrize("given", [[5], [[5, 6], [7]]])
def test_token_ids_are_refused_unless_the_server_knows_whose_they_are(api: httpx2.Client, given: Any) -> None:
    status, code, param, message = refusal(post(api, given))
    assert (status, code, param) == (400, "INVALID_INPUT", "input")
    assert "check_embedding_ctx_length=False" in message
    assert "--token-ids" in message


class _Words:
    """A vocabulary of three tokens, as tiktoken's encodings are used."""

    def decode(self, tokens: list[int]) -> str:
        return " ".join({0: "who", 1: "made", 2: "it"}[token] for token in tokens)


def test_token_ids_of_another_tokenizer_are_read_as_their_text(
    api: httpx2.Client, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: asked.append(name) or _Words())
    flags = {"model": (str(models / "bert-encoder"),), "token_ids": "cl100k"}
    with in_process(**flags) as running, connect(running.url) as client:
        expected = embed(api, ["who made it", "it"], "bert-encoder")
        assert np.array_equal(embed(client, [[0, 1, 2], [2]], "bert-encoder"), expected)
        message = "Field 'input[1]' contains an id that cl100k_base does not have"
        assert refusal(post(client, [[0], [9]], "bert-encoder")) == (400, "INVALID_INPUT", "input", message)
    assert asked == ["cl100k_base"]


def test_a_server_that_cannot_read_the_token_ids_it_should_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(ValueError, match="--token-ids cl100k needs the package tiktoken"):
        TokenIdReader("cl100k")


def test_token_ids(trusting: httpx2.Client, models: Path) -> None:
    api = trusting
    tokenizer = Tokenizer.from_file(str(models / "bert-encoder" / "tokenizer.json"))
    expected = embed(api, TEXTS, "bert-encoder")
    for special in (True, False):
        ids = [tokenizer.encode(text, add_special_tokens=special).ids for text in TEXTS]
        assert np.array_equal(embed(api, ids, "bert-encoder"), expected)
        assert np.array_equal(embed(api, ids[0], "bert-encoder"), expected[:1])
    long = tokenizer.encode("snakes " * 11_000, add_special_tokens=False).ids
    answer = post(api, long, "bert-encoder")
    assert answer.json()["usage"]["total_tokens"] == 512
    assert np.array_equal(embed(api, [long], "bert-encoder"), embed(api, ["snakes " * 1000], "bert-encoder"))


# --- fields of other APIs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "ubinary", "binary"])
def test_types_of_numbers_are_those_of_encode(api: httpx2.Client, dtype: str) -> None:
    items = [{"text": text} for text in TEXTS]
    params = {"output_dtype": dtype}
    told = api.post(f"/v1/encode/{EMBEDDED}", json={"items": items, "params": params}).json()["items"]
    expected = [item["dense"]["values"] for item in told]
    if dtype == "binary":  # signed, as Voyage, Cohere and Jina have it
        expected = [[value - 128 for value in values] for values in expected]
    kind = np.int8 if dtype in ("int8", "binary") else np.uint8
    for fields in ({"output_dtype": dtype}, {"embedding_type": dtype}, {"embedding_types": [dtype]}):
        entries = post(api, TEXTS, **fields).json()["data"]
        assert [entry["embedding"] for entry in entries] == expected
        entries = post(api, TEXTS, **fields, encoding_format="base64").json()["data"]
        decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), kind).tolist() for entry in entries]
        assert decoded == expected


def test_fields_that_change_nothing_are_named(api: httpx2.Client) -> None:
    same = {"output_dtype": "float", "embedding_type": "float", "truncation": True, "truncate": "END", "task": None}
    answer = post(api, TEXTS, **same, user="someone", output_dtpye="int8")
    assert answer.headers["x-sie-ignored"] == "user,output_dtpye (did you mean output_dtype?)"
    assert "x-sie-ignored" not in post(api, TEXTS, **same).headers
    assert np.array_equal(embed(api, TEXTS, **same), embed(api, TEXTS))
    # A large body is read in another way.
    answer = api.post("/v1/embeddings", json={"model": EMBEDDED, "input": ["a" * 300_000], "usr": 1})
    assert answer.headers["x-sie-ignored"] == "usr"


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input_type": "classification"}, "input_type", "is 'classification'; it must be one of query, search_query"),
        ({"task": "text-matching"}, "task", "is 'text-matching'; it must be one of"),
        ({"input_type": "query", "task": "document"}, "task", "is False, but field 'input_type' asks for True"),
        ({"output_dtype": "int8", "embedding_type": "uint8"}, "embedding_type", "'output_dtype' asks for 'int8'"),
        ({"embedding_types": ["float", "int8"]}, "embedding_types", "must name one type"),
        ({"dimensions": 2, "output_dimension": 3}, "output_dimension", "is 3, but field 'dimensions' asks for 2"),
        ({"truncate": "MIDDLE"}, "truncate", "is 'MIDDLE'; it must be true, false, START, END or NONE"),
        ({"late_chunking": True}, "late_chunking", "is not supported"),
        ({"prompt": "Find: "}, "prompt", "is not supported"),
        ({"prompt": "auto"}, "prompt", "is not supported"),
        ({"add_special_tokens": False}, "add_special_tokens", "cannot be false"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "must be -1 or positive"),
    ],
)
def test_fields_that_cannot_be_honoured_are_refused(api: httpx2.Client, fields: Any, param: str, message: str) -> None:
    status, code, named, told = refusal(post(api, "a", **fields))
    assert (status, code, named) == (400, "INVALID_INPUT", param)
    assert message in told


def test_a_text_over_the_limit_is_cut_or_refused(api: httpx2.Client) -> None:
    long = "snakes " * 1000
    assert np.array_equal(embed(api, long, truncation=True), embed(api, long))
    for fields in ({"truncation": False}, {"truncate": "NONE"}, {"truncate": False}):
        assert refusal(post(api, long, **fields))[:2] == (400, "INPUT_TOO_LONG")
    assert np.array_equal(embed(api, long, truncate_prompt_tokens=3), embed(api, "snakes"))


# --- the model's own templates and widths ----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[True, (16, 32)], ids=["any width", "two widths"])
def trained(models: Path, request: pytest.FixtureRequest) -> Iterator[httpx2.Client]:
    """A client of a server whose model has a template for documents and was trained to be cut."""

    def loader(entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
        model = load(entry, device, precision)
        facts = {"matryoshka": request.param, "doc_template": "it {text}", "query_template": "who {text}"}
        return replace(model, entry=replace(model.entry, **facts))

    with in_process(loader, model=(str(models / "bert-encoder"),)) as running, connect(running.url) as client:
        yield client


@pytest.mark.parametrize("dimensions", [16, 32, 64])
def test_dimensions_cut_and_normalise_again(trained: httpx2.Client, dimensions: int) -> None:
    cut = embed(trained, TEXTS, "bert-encoder", dimensions=dimensions)
    raw = encode(trained, TEXTS, "bert-encoder", options={"normalize": False})[:, :dimensions]
    assert cut == pytest.approx(raw / np.linalg.norm(raw, axis=1, keepdims=True), abs=1e-6)


def test_the_template_is_that_of_documents(trained: httpx2.Client, api: httpx2.Client) -> None:
    expected = embed(api, ["it snakes"], "bert-encoder")
    assert np.array_equal(embed(trained, "snakes", "bert-encoder"), expected)


@pytest.mark.parametrize(
    "fields",
    [{"input_type": "query"}, {"input_type": "search_query"}, {"task": "retrieval.query"}, {"prompt_name": "query"}],
)
def test_queries_get_the_template_of_queries(trained: httpx2.Client, api: httpx2.Client, fields: Any) -> None:
    expected = embed(api, ["who snakes"], "bert-encoder")
    assert np.array_equal(embed(trained, "snakes", "bert-encoder", **fields), expected)
    [name] = fields
    values = {"input_type": "document", "task": "retrieval.passage", "prompt_name": "passage"}
    expected = embed(api, ["it snakes"], "bert-encoder")
    assert np.array_equal(embed(trained, "snakes", "bert-encoder", **{name: values[name]}), expected)


def test_more_dimensions_than_there_are(trained: httpx2.Client) -> None:
    answer = refusal(post(trained, "snakes", "bert-encoder", dimensions=65))
    assert answer[:3] == (400, "unsupported_field", "dimensions")
    assert answer[3].startswith("Model 'bert-encoder' does not support 65 dimensions. Supported: 1")


def test_dimensions_of_a_model_that_was_not_trained_for_them(api: httpx2.Client) -> None:
    message = f"Model '{EMBEDDED}' does not support 128 dimensions. Supported: 384"
    assert refusal(post(api, "snakes", dimensions=128)) == (400, "unsupported_field", "dimensions", message)
    assert np.array_equal(embed(api, "snakes", dimensions=384), embed(api, "snakes"))


# --- OpenAI's own client ---------------------------------------------------------------------------------------------


def openai_client(url: str) -> openai.OpenAI:
    """What users have who come from OpenAI: only the address is another. It does not retry, and asks no proxy."""
    return openai.OpenAI(
        base_url=f"{url}/v1", api_key="x", max_retries=0, http_client=httpx2.Client(timeout=60, trust_env=False)
    )


@pytest.fixture(scope="module")
def theirs(server: Server) -> Iterator[openai.OpenAI]:
    """OpenAI's client of the running server."""
    with openai_client(server.url) as client:
        yield client


def test_openai_s_client_reads_the_answer(api: httpx2.Client, theirs: openai.OpenAI) -> None:
    # It asks for base64 unless told otherwise, and decodes it.
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "float", "dimensions": 384, "user": "u"}):
        answer = theirs.embeddings.create(model=EMBEDDED, input=TEXTS, **options)
        assert (answer.object, answer.model, [entry.index for entry in answer.data]) == ("list", EMBEDDED, [0, 1, 2])
        values = np.array([entry.embedding for entry in answer.data], np.float32)
        assert np.array_equal(values, embed(api, TEXTS))
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    raw = theirs.embeddings.create(model=EMBEDDED, input="snakes", encoding_format="base64").data[0].embedding
    assert raw == post(api, "snakes", encoding_format="base64").json()["data"][0]["embedding"]


def test_openais_client_raises_its_usual_exceptions(theirs: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        theirs.embeddings.create(model=EMBEDDED, input="snakes", dimensions=128)
    assert (refused.value.code, refused.value.param) == ("unsupported_field", "dimensions")
    assert refused.value.type == "invalid_request_error"
    assert "does not support 128 dimensions" in refused.value.message
    with pytest.raises(openai.BadRequestError, match="must not be empty"):
        theirs.embeddings.create(model=EMBEDDED, input=[""])
    with pytest.raises(openai.UnprocessableEntityError, match="Invalid enum value 'hex'"):
        theirs.embeddings.create(model=EMBEDDED, input="a", encoding_format="hex")  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError) as unknown:
        theirs.embeddings.create(model="xyzzy", input="a")
    assert (unknown.value.code, unknown.value.status_code) == ("MODEL_NOT_FOUND", 404)


@pytest.mark.long
def test_openai_s_client_waits_for_a_cold_model(models: Path) -> None:
    with (
        in_process(model=(str(models / "bert-encoder"),), load_wait=0) as running,
        openai_client(running.url) as client,
    ):
        with pytest.raises(openai.InternalServerError) as loading:
            client.embeddings.create(model="bert-encoder", input="a")
        assert (loading.value.status_code, loading.value.code) == (503, "MODEL_LOADING")
        assert loading.value.response.headers["retry-after"] == "5"
        answer = client.with_options(max_retries=3).embeddings.create(model="bert-encoder", input="a")
        assert len(answer.data) == 1


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "Field 'input' must not be empty"),
        ([], "Field 'input' must not be empty"),
        (["a", ""], "Field 'input[1]' must not be empty"),
        ([[]], "Field 'input[0]' must not be empty"),
        (["a", 1], "Field 'input' must be a text, a list of texts, a list of token ids, or a list of such lists"),
        (["a", [1]], "Field 'input' must be a text, a list of texts, a list of token ids, or a list of such lists"),
        ([[5], 5], "Field 'input' must be a text, a list of texts, a list of token ids, or a list of such lists"),
        (["a"] * 10_001, "Field 'input' must contain at most 10000 texts"),
        (["a", "b" * 2**21 + "c"], "Field 'input[1]' must hold at most 2097152 bytes of UTF-8 text"),
    ],
)
def test_invalid_inputs(api: httpx2.Client, given: Any, message: str) -> None:
    status, code, param, told = refusal(post(api, given))
    assert (status, code, told) == (400, "INVALID_INPUT", message)
    assert param is not None
    assert param.startswith("input")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[5], []], "Field 'input[1]' must not be empty"),
        ([[5], [-1]], "token id -1 is outside the model's vocabulary of 600 tokens"),
        ([5, 2**64], "token id 18446744073709551616 is outside the model's vocabulary of 600 tokens"),
    ],
)
def test_invalid_token_ids(trusting: httpx2.Client, given: Any, message: str) -> None:
    assert refusal(post(trusting, given, "bert-encoder"))[::3] == (400, message)


def test_token_ids_are_not_cut_against_the_client_s_will(trusting: httpx2.Client) -> None:
    given = [[5] * 600, [5] * 3]
    assert post(trusting, given, "bert-encoder").status_code == 200
    status, code, param, told = refusal(post(trusting, given, "bert-encoder", truncation=False))
    assert (status, code, param) == (400, "INPUT_TOO_LONG", "input[0]")
    assert "has 600 tokens" in told
    assert post(trusting, given[1:], "bert-encoder", truncation=False).status_code == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Input data was truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"model": "m"}', "Object missing required field `input`"),
        (b'{"input": "a"}', "Object missing required field `model`"),
        (b'{"model": 1, "input": "a"}', "Expected `str`, got `int` - at `$.model`"),
        (b'{"model": "m", "input": {}}', "Expected `str | array`, got `object` - at `$.input`"),
        (b'{"model": "m", "input": [true]}', "Expected `int | str | array`, got `bool` - at `$.input[0]`"),
        (
            b'{"model": "m", "input": "a", "encoding_format": "hex"}',
            "Invalid enum value 'hex' - at `$.encoding_format`",
        ),
        (b'{"model": "m", "input": "a", "dimensions": 0}', "Expected `int` >= 1 - at `$.dimensions`"),
    ],
)
def test_invalid_bodies(api: httpx2.Client, content: bytes, message: str) -> None:
    status, code, _, told = refusal(api.post("/v1/embeddings", content=content))
    assert (status, code, told) == (422, "INVALID_INPUT", message)


def test_unknown_models(api: httpx2.Client) -> None:
    before = metric(api, "sie_requests_total", endpoint="embeddings", model="unknown", status="404")
    message = "Model 'xyzzy' not found"
    assert refusal(post(api, "a", "xyzzy")) == (404, "MODEL_NOT_FOUND", None, message)
    assert metric(api, "sie_requests_total", endpoint="embeddings", model="unknown", status="404") == before + 1
    message = "Model 'bert' does not support output types: {'dense'}. Supported: {}"
    assert refusal(post(api, "a", "bert")) == (400, "INVALID_INPUT", None, message)


def test_a_cold_model(models: Path) -> None:
    with (
        in_process(model=(str(models / "bert-encoder"),), load_wait=0) as running,
        connect(running.url) as api,
    ):
        answer = post(api, "a", "bert-encoder")
        message = "Model 'bert-encoder' is loading, please retry"
        assert refusal(answer) == (503, "MODEL_LOADING", None, message)
        assert answer.headers["retry-after"] == "5"


def test_headers_that_other_routes_honour(api: httpx2.Client) -> None:
    body = {"model": EMBEDDED, "input": "a"}
    answer = api.post("/v1/embeddings", json=body, headers={"X-SIE-Remote": "allow"})
    assert refusal(answer)[:2] == (400, "INVALID_INPUT")
    answer = api.post("/v1/embeddings", json=body)
    assert answer.status_code == 200
    assert metric(api, "sie_requests_total", endpoint="embeddings", model=EMBEDDED, status="200") >= 1
