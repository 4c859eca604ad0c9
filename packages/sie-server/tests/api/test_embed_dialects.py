"""The embedding routes of other APIs: what each of their clients sends, and exactly what it reads."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from jsonschema_rs import Draft202012Validator

from sie_server.api.embed_dialects.openai import OPENAI
from sie_server.api.embed_dialects.table import EMBED_ROUTES
from sie_server.engine.calls import EncodeCall
from sie_server.engine.engine import Engine
from sie_server.engine.results import Encoding
from sie_server.http.error_responses import is_foreign
from sie_testing.late_interaction_checkpoints import bge_m3, stanford
from sie_testing.serving import EMBEDDED, connect, in_process

TEXTS = ["python is a programming language", "snakes", "who made it"]
FOREIGN = [path for path, dialect in EMBED_ROUTES.items() if dialect is not OPENAI]


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server with one preloaded model, one that has every kind of embedding, and one that only scores."""
    bge_m3(folder := tmp_path_factory.mktemp("m3"))
    with (
        in_process(model=(str(models / "bert"), f"m3={folder}"), preload=(EMBEDDED,)) as running,
        connect(running.url) as client,
    ):
        yield client


def post(api: httpx2.Client, path: str, body: Any) -> Any:
    """The answer, which the OpenAPI document describes."""
    answer = api.post(path, json=body)
    assert answer.status_code == 200, answer.text
    document = api.get("/openapi.json").json()
    schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())
    return answer.json()


def encode(api: httpx2.Client, model: str = EMBEDDED, output: str = "dense", **params: Any) -> list[Any]:
    """What the native route gives."""
    body = {"items": [{"text": text} for text in TEXTS], "params": {"output_types": [output], **params}}
    return [item[output] for item in api.post(f"/v1/encode/{model}", json=body).json()["items"]]


def vectors(api: httpx2.Client, dtype: str = "float32") -> list[Any]:
    found = [each["values"] for each in encode(api, output_dtype=dtype)]
    return [[value - 128 for value in each] for each in found] if dtype == "binary" else found


# --- OpenAI's answer under the prefixes of others --------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in FOREIGN if path.endswith("/embeddings")])
def test_openai_s_answer(served: httpx2.Client, path: str) -> None:
    body = {"model": EMBEDDED, "input": TEXTS, "input_type": "document", "truncation": True, "user": "u"}
    told = post(served, path, body)
    assert [each["embedding"] for each in told["data"]] == vectors(served)
    own = post(served, "/v1/embeddings", body)
    if path == "/mixedbread/v1/embeddings":
        assert {name: told.pop(name) for name in ("normalized", "encoding_format", "dimensions")} == {
            "normalized": True,
            "encoding_format": "float",
            "dimensions": 384,
        }
    assert told == own
    assert (
        post(served, path, {**body, "model": None, "input": [{"text": text} for text in TEXTS]})["data"] == own["data"]
    )


def test_infinity_s_defaults(served: httpx2.Client) -> None:
    body = {"model": EMBEDDED, "input": TEXTS, "dimensions": 0, "modality": "text", "encoding_format": "float"}
    assert [each["embedding"] for each in post(served, "/infinity/embeddings", body)["data"]] == vectors(served)


def test_mixedbread_s_numbers(served: httpx2.Client) -> None:
    for kind in ("int8", ["int8"]):
        told = post(served, "/mixedbread/v1/embeddings", {"model": EMBEDDED, "input": TEXTS, "encoding_format": kind})
        assert (told["encoding_format"], [each["embedding"] for each in told["data"]]) == (
            "int8",
            vectors(served, "int8"),
        )


def test_mixedbread_s_numbers_in_several_forms(served: httpx2.Client) -> None:
    kinds = ["float", "int8", "ubinary", "base64"]
    told = post(served, "/mixedbread/v1/embeddings", {"model": EMBEDDED, "input": TEXTS, "encoding_format": kinds})
    assert told["encoding_format"] == kinds
    for index, each in enumerate(told["data"]):
        assert (each["index"], each["object"], [*each["embedding"]]) == (index, "embedding_dict", kinds)
        for kind, dtype in (("float", "float32"), ("int8", "int8"), ("ubinary", "ubinary")):
            assert each["embedding"][kind] == vectors(served, dtype)[index]


# --- TEI -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/tei"])
def test_tei_s_vectors(served: httpx2.Client, prefix: str) -> None:
    body = {"inputs": TEXTS, "normalize": True, "truncate": True, "truncation_direction": "Right", "prompt_name": None}
    assert post(served, f"{prefix}/embed", body) == vectors(served)
    assert post(served, f"{prefix}/embed", {"inputs": TEXTS[0]}) == vectors(served)[:1]
    raw = [each["values"] for each in encode(served, options={"normalize": False})]
    assert post(served, f"{prefix}/embed", {"inputs": TEXTS, "normalize": False}) == raw
    # As the inference API of Hugging Face has them.
    assert post(served, f"{prefix}/embed", {"inputs": TEXTS, "parameters": {"normalize": False}}) == raw


def test_tei_s_token_weights(served: httpx2.Client) -> None:
    told = post(served, "/embed_sparse", {"model": "m3", "inputs": TEXTS})
    for weights, own in zip(told, encode(served, "m3", "sparse"), strict=True):
        pairs = zip(own["indices"], own["values"], strict=True)
        assert weights == [{"index": index, "value": value} for index, value in pairs]
    assert any(told)


def test_tei_s_token_vectors(served: httpx2.Client) -> None:
    told = post(served, "/embed_all", {"model": "m3", "inputs": TEXTS})
    assert told == [each["values"] for each in encode(served, "m3", "multivector")]


def test_texts_are_cut_at_the_end_that_is_asked_for(served: httpx2.Client) -> None:
    long = "snakes " * 400 + "reptiles"
    end = post(served, "/embed", {"inputs": "snakes " * 253 + "reptiles"})
    for fields in ({"truncation_direction": "Left"}, {"truncate": "START"}, {"truncation_side": "left"}):
        assert post(served, "/embed", {"inputs": long, **fields}) == end
    assert post(served, "/embed", {"inputs": long}) == post(served, "/embed", {"inputs": "snakes " * 254})
    answer = served.post("/embed", json={"inputs": long, "truncate": False})
    assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation")
    assert answer.json()["error"].startswith("Field 'inputs[0]' has 401 tokens; only 254 fit")


# --- Cohere ----------------------------------------------------------------------------------------------------------

BODY = {"model": EMBEDDED, "texts": TEXTS, "input_type": "search_document"}


@pytest.mark.parametrize("path", ["/v1/embed", "/cohere/v1/embed"])
def test_cohere_v1_has_floats_or_types(served: httpx2.Client, path: str) -> None:
    told = post(served, path, {**BODY, "truncate": "END"})
    assert told.keys() == {"id", "embeddings", "texts", "meta", "response_type"}
    assert (told["response_type"], told["embeddings"], told["texts"]) == ("embeddings_floats", vectors(served), TEXTS)
    told = post(served, path, {**BODY, "embedding_types": ["int8"]})
    assert (told["response_type"], told["embeddings"]) == ("embeddings_by_type", {"int8": vectors(served, "int8")})


@pytest.mark.parametrize("path", ["/v2/embed", "/cohere/v2/embed"])
def test_cohere_v2_has_every_type_that_is_asked_for(served: httpx2.Client, path: str) -> None:
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    told = post(served, path, {**BODY, "embedding_types": kinds, "max_tokens": 100})
    assert [*told["embeddings"]] == kinds
    for kind in kinds[1:-1]:
        assert told["embeddings"][kind] == vectors(served, kind)
    assert told["embeddings"]["float"] == vectors(served)
    decoded = [np.frombuffer(base64.b64decode(each), "<f4").tolist() for each in told["embeddings"]["base64"]]
    assert decoded == vectors(served)
    parts = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    told = post(served, path, {"model": EMBEDDED, "input_type": "search_query", "inputs": parts})
    assert (told["embeddings"], told["texts"]) == ({"float": vectors(served)}, TEXTS)
    assert told["meta"]["api_version"] == {"version": "2"}
    assert told["meta"]["billed_units"]["input_tokens"] > 10


# --- others ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models/embed", "/zeroentropy/v1/models/embed"])
def test_zeroentropy(served: httpx2.Client, path: str) -> None:
    body = {"model": EMBEDDED, "input": TEXTS, "input_type": "query", "dimensions": None, "latency": "fast"}
    told = post(served, path, body)
    assert told["results"] == [{"embedding": vector} for vector in vectors(served)]
    assert told["usage"].keys() == {"total_bytes", "total_tokens"}
    assert told["usage"]["total_bytes"] == sum(map(len, TEXTS))
    alone = post(served, path, {**body, "input": TEXTS[0], "encoding_format": "base64"})["results"]
    assert np.frombuffer(base64.b64decode(alone[0]["embedding"]), "<f4").tolist() == vectors(served)[0]


def test_pinecone(served: httpx2.Client) -> None:
    body = {
        "model": EMBEDDED,
        "inputs": [{"text": text} for text in TEXTS],
        "parameters": {"input_type": "passage", "truncate": "END", "dimension": 384},
    }
    told = post(served, "/pinecone/embed", body)
    assert told["data"] == [{"values": vector, "vector_type": "dense"} for vector in vectors(served)]
    assert (told.keys(), told["usage"].keys()) == ({"model", "vector_type", "data", "usage"}, {"total_tokens"})


@pytest.mark.parametrize("path", ["/pooling", "/vllm/pooling"])
def test_vllm_s_pooling(served: httpx2.Client, path: str) -> None:
    told = post(served, path, {"model": "m3", "input": TEXTS, "use_activation": True, "priority": 0})
    assert told.keys() == {"id", "object", "created", "model", "data", "usage"}
    dense, tokens = (encode(served, "m3", output) for output in ("dense", "multivector"))
    assert [each["data"] for each in told["data"]] == [each["values"] for each in dense]
    assert [(each["index"], each["object"]) for each in told["data"]] == [(n, "pooling") for n in range(3)]
    told = post(served, path, {"model": "m3", "input": TEXTS, "task": "token_embed"})
    assert [each["data"] for each in told["data"]] == [each["values"] for each in tokens]


# --- large bodies, and refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FOREIGN)
def test_many_and_long_texts(served: httpx2.Client, path: str) -> None:
    dialect = EMBED_ROUTES[path]
    texts = ["snakes " * 60_000, *(f"a{n}" for n in range(1100))]
    told = post(served, path, {"model": "m3", dialect.texts: texts})
    small = post(served, path, {"model": "m3", dialect.texts: texts[-2:]})
    for many, few in zip(_lists(told), _lists(small), strict=True):
        assert len(many) == 1101
        assert [*map(_vector, many[-2:])] == [*map(_vector, few)]


def _lists(told: Any) -> list[Any]:
    """The lists of an answer that have an element for each text."""
    if isinstance(told, dict):
        return [found for value in told.values() for found in _lists(value)]
    return [told] if isinstance(told, list) else []


def _vector(element: Any) -> Any:
    """An element without its place in the list."""
    return {**element, "index": 0} if isinstance(element, dict) else element


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"model": "nobody/nothing"}, 404),
        ({"model": 1}, 400),
        ({"TEXTS": []}, 400),
        ({"TEXTS": [""]}, 400),
        ({"TEXTS": ["a", 1]}, 400),
        ({"TEXTS": None}, 400),
        ({"TEXTS": {"text": "a"}}, 400),
        ({"TEXTS": [[1, 2, 3]]}, 400),
        ({"TEXTS": [{"image": "a"}]}, 400),
        ({"TEXTS": ["a"] * 10_001}, 400),
        ({"images": ["data:"]}, 400),
        ({"add_special_tokens": False}, 400),
        ({"embed_dtype": "float16"}, 400),
        ({"truncate": "middle"}, 400),
        ({"truncation_direction": "up"}, 400),
        ({"input_type": "picture"}, 400),
        ({"dimensions": 7}, 400),
        ({"model": "bert"}, 400),
        ({"parameters": [1]}, 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_have_the_form_that_a_client_reads(
    served: httpx2.Client, path: str, fields: dict[str, Any], status: int
) -> None:
    assert is_foreign(path)
    dialect = EMBED_ROUTES[path]
    given = {dialect.texts if name == "TEXTS" else name: value for name, value in fields.items()}
    body = {"model": EMBEDDED if dialect.output == "dense" else "m3", dialect.texts: ["a"], **given}
    if fields == {"dimensions": 7} and dialect.output != "dense":
        return
    answer = served.post(path, json=body)
    told = answer.json()
    if dialect.plain_errors:
        assert answer.status_code == {400: 422}.get(status, status), told
        assert {name: type(value) for name, value in told.items()} == {"error": str, "error_type": str}
    else:
        assert answer.status_code == status, told
        assert told["error"]["message"] == told["detail"] == told["message"]


def test_a_request_that_can_wait(served: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    encode = Engine.encode

    async def watched(engine: Engine, call: EncodeCall) -> Encoding:
        seen.append(call.scheduling.priority)
        return await encode(engine, call)

    monkeypatch.setattr(Engine, "encode", watched)
    for fields in ({}, {"priority": 0}, {"priority": 5}):
        post(served, "/v2/embed", {**BODY, **fields})
    served.post("/v2/embed", json={**BODY, "priority": 5}, headers={"X-SIE-Priority": "interactive"})
    assert seen == ["normal", "normal", "batch", "interactive"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/embed_all", {"inputs": ["a"], "output_dtype": "int8"}),
        ("/embed_all", {"inputs": ["a"], "encoding_format": "base64"}),
        ("/pooling", {"input": ["a"], "task": "token_embed", "embedding_types": ["binary"]}),
        ("/embed_sparse", {"model": "m3", "inputs": ["a"], "output_dtype": "uint8"}),
        ("/embed", {"inputs": ["a"], "texts": ["b"]}),
        ("/v2/embed", {"texts": ["a"], "input": "b"}),
    ],
)
def test_fields_that_would_change_the_answer_are_refused(served: httpx2.Client, path: str, fields: Any) -> None:
    answer = served.post(path, json=fields)
    assert answer.status_code in (400, 422)
    assert any(f"'{name}'" in answer.text for name in list(fields)[1:]), answer.text


def test_fields_that_nothing_reads_are_named(served: httpx2.Client) -> None:
    answer = served.post("/v2/embed", json={**BODY, "user": 1, "trunkate": "END", "images": []})
    assert answer.headers["x-sie-ignored"] == "user,trunkate (did you mean truncate?),images"
    assert answer.json()["meta"]["warnings"][0] == "field 'user' is ignored"


def test_a_missing_model_without_a_default_lists_the_names(models: Path) -> None:
    with in_process(model=(str(models / "bert-encoder"),)) as running, connect(running.url) as client:
        answer = client.post("/embed", json={"inputs": "a"})
        assert answer.status_code == 422
        assert "bert-encoder" in answer.json()["error"]
    flags: dict[str, Any] = {"model": (str(models / "bert"), str(models / "bert-encoder"))}
    # The default does not embed, and one of the preloaded models does.
    with (
        in_process(**flags, default_model="bert", preload=("bert", "bert-encoder")) as running,
        connect(running.url) as client,
    ):
        assert client.post("/v2/embed", json={"texts": ["a"]}).status_code == 200
        assert client.post("/rerank", json={"query": "a", "texts": ["a"]}).status_code == 200


def test_a_query_of_late_interaction_is_not_cut_against_the_client_s_will(tmp_path: Path) -> None:
    stanford(tmp_path)
    with in_process(model=(f"late={tmp_path}",)) as running, connect(running.url) as client:
        body = {"model": "late", "inputs": ["w1 " * 300, "w1"], "prompt_name": "query"}
        assert client.post("/embed_all", json=body).status_code == 200
        refused = client.post("/embed_all", json={**body, "truncate": False})
        assert (refused.status_code, "'inputs[0]' has 300 tokens" in refused.json()["error"]) == (422, True)
        assert client.post("/embed_all", json={**body, "inputs": ["w1"], "truncate": False}).status_code == 200
