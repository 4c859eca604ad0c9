"""Models, health, metrics, the OpenAPI document, and the headers that requests and answers carry."""

import re
from typing import Any

import httpx2
import pytest
from jsonschema_rs import Draft202012Validator

from sie_server import CONTRACT_VERSION, __version__
from sie_server.api.dialects.table import LISTED, ROUTES
from sie_server.api.embed_dialects.table import EMBED_ROUTES
from sie_server.api.tei import TEI_ROUTES
from sie_testing.serving import EMBEDDED, connect, error, in_process, metric

BODY = {"query": {"text": "what is python"}, "items": [{"text": "it"}, {"text": "snakes are reptiles"}]}

# --- models ----------------------------------------------------------------------------------------------------------


def test_models_are_listed_with_their_capabilities(api: httpx2.Client) -> None:
    listed = {model["name"]: model for model in api.get("/v1/models").json()["models"]}
    embedded = listed[EMBEDDED]
    assert embedded["inputs"] == ["text"]
    assert sorted(embedded["outputs"]) == ["dense", "multivector", "score"]
    assert embedded["dims"] == {"dense": 384, "multivector": 384}
    assert (embedded["loaded"], embedded["state"], embedded["last_error"]) == (True, "loaded", None)
    assert embedded["max_sequence_length"] == 256
    assert embedded["profiles"] == {"default": {"is_default": True}}
    # What a score means.
    meanings = {name: model["score"] for name, model in listed.items()}
    assert meanings[EMBEDDED] == "maxsim"
    assert meanings["cross-encoder/ms-marco-MiniLM-L-6-v2"] == "logit"
    assert meanings["BAAI/bge-reranker-v2-m3"] == "probability"


def test_models_are_listed_as_openai_lists_them(api: httpx2.Client) -> None:
    listed = api.get("/v1/models").json()
    assert listed["object"] == "list"
    names = [model["name"] for model in listed["models"]]
    assert listed["data"] == [{"id": name, "object": "model", "created": 0, "owned_by": "sie"} for name in names]


def test_a_model_that_was_never_requested_is_available(api: httpx2.Client) -> None:
    model = api.get("/v1/models/BAAI/bge-reranker-large").json()
    assert (model["loaded"], model["state"], model["last_error"]) == (False, "available", None)
    assert (model["outputs"], model["max_sequence_length"]) == (["score"], 512)


def test_a_checkpoint_is_described_once_loaded(api: httpx2.Client) -> None:
    assert api.post("/v1/score/bert", json=BODY).status_code == 200
    assert api.post("/v1/encode/bert-encoder", json={"items": [{"text": "it"}]}).status_code == 200
    reranker, encoder = (api.get(f"/v1/models/{name}").json() for name in ("bert", "bert-encoder"))
    assert (reranker["state"], reranker["outputs"], reranker["score"]) == ("loaded", ["score"], "probability")
    assert (encoder["state"], encoder["outputs"], encoder["score"]) == ("loaded", ["dense"], None)
    assert (reranker["dims"], encoder["dims"]) == ({}, {"dense": 64})
    assert reranker["max_sequence_length"] == encoder["max_sequence_length"] == 512


@pytest.mark.parametrize("path", [EMBEDDED, EMBEDDED.replace("/", "%2F"), f"{EMBEDDED}:default"])
def test_one_model_is_its_entry_of_the_list(api: httpx2.Client, path: str) -> None:
    model = api.get(f"/v1/models/{path}").json()
    assert (model["name"], model["id"], model["object"]) == (EMBEDDED, EMBEDDED, "model")
    assert model in api.get("/v1/models").json()["models"]
    assert model == api.get(f"/xinference/v1/models/{path}").json()


def test_a_model_is_of_the_type_that_xinference_s_client_asks_for(api: httpx2.Client) -> None:
    types = {model["name"]: model["model_type"] for model in api.get("/v1/models").json()["models"]}
    assert (types["BAAI/bge-reranker-v2-m3"], types[EMBEDDED]) == ("rerank", "embedding")


@pytest.mark.parametrize("keys", [(), ("k" * 20,)])
def test_xinference_s_client_learns_whether_to_send_a_key(keys: tuple[str, ...]) -> None:
    with in_process(api_keys=keys) as running, connect(running.url) as client:
        assert client.get("/v1/cluster/auth").json() == {"auth": bool(keys)}


@pytest.mark.parametrize("accept", ["application/json", "application/msgpack", "*/*"])
def test_models_are_json_whatever_is_accepted(api: httpx2.Client, accept: str) -> None:
    for path in ("/v1/models", "/v1/models/bert"):
        assert api.get(path, headers={"Accept": accept}).headers["content-type"] == "application/json"


def test_unknown_model(api: httpx2.Client) -> None:
    assert error(api.get("/v1/models/xyzzy")) == (404, "MODEL_NOT_FOUND", "Model 'xyzzy' not found")
    close = error(api.get("/v1/models/baai/bge-reranker-bas"))[2]
    assert close.startswith("Model 'baai/bge-reranker-bas' not found Did you mean 'BAAI/bge-reranker-base'")
    assert close.count("'") <= 2 + 2 * 3


# --- health and unknown routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/livez", "/health", "/v1/health/ready", "/ping"])
def test_health(api: httpx2.Client, path: str) -> None:
    answer = api.get(path, headers={"Accept": "application/msgpack"})
    assert (answer.status_code, answer.text) == (200, "ok")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/scores", "/v2/scores", "/v1/pools", "/v1/estimate"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path(api: httpx2.Client, method: str, path: str) -> None:
    answer = api.request(method, path, headers={"Accept": "application/msgpack"})
    assert answer.status_code == 404
    assert answer.json()["detail"]["code"] == "NOT_FOUND"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/score/bert"),
        ("GET", "/v1/encode/a/b"),
        ("PUT", "/v1/score/bert"),
        ("POST", "/v1/models"),
        ("DELETE", "/v1/models/bert"),
        ("POST", "/healthz"),
    ],
)
def test_wrong_method(api: httpx2.Client, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert method not in answer.headers["allow"]


# --- headers ---------------------------------------------------------------------------------------------------------


def test_headers_of_every_answer(api: httpx2.Client) -> None:
    answers = [
        api.get("/healthz"),
        api.get("/v1/models"),
        api.get("/nope"),
        api.get("/v1/score/bert"),
        api.post("/v1/score/bert", json=BODY),
        api.post("/v1/score/bert", content=b"nope"),
        api.post("/v1/score/xyzzy", json=BODY),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 405, 200, 400, 404]
    assert CONTRACT_VERSION == "0.10.1"  # what the public SDK compares itself with: another number, and it warns
    assert {answer.headers["x-sie-server-version"] for answer in answers} == {CONTRACT_VERSION}
    assert {answer.headers["x-sie-build"] for answer in answers} == {__version__}
    assert {answer.headers["x-sie-served-by"] for answer in answers} == {"local"}
    [instance] = {answer.headers["x-sie-runtime-instance"] for answer in answers}
    assert re.fullmatch("[0-9a-f]{64}", instance)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-SIE-SDK-Version": "0.0.1"},
        {"X-SIE-SDK-Version": "not a version"},
        {"Authorization": "Bearer secret"},
        {"X-SIE-Pool": "default"},
        {"X-SIE-MACHINE-PROFILE": "l4-spot"},
        {"X-Request-ID": "abc"},
        {"X-SIE-Remote": "forbid"},
    ],
)
def test_headers_that_change_nothing(api: httpx2.Client, headers: dict[str, str]) -> None:
    expected = api.post("/v1/score/bert", json=BODY).json()
    assert api.post("/v1/score/bert", json=BODY, headers=headers).json() == expected


def test_a_request_that_wants_to_be_relayed_is_refused(api: httpx2.Client) -> None:
    status, code, message = error(api.post("/v1/score/bert", json=BODY, headers={"X-SIE-Remote": "allow"}))
    assert (status, code) == (400, "INVALID_INPUT")
    assert "X-SIE-Remote" in message


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_prometheus_text(api: httpx2.Client) -> None:
    api.post("/v1/score/bert", json=BODY)
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    labels = re.escape('{endpoint="score",model="bert",phase="')
    for phase in ("total", "queue", "tokenize", "inference"):
        assert re.search(rf'^sie_request_duration_seconds_count{labels}{phase}"}} \d', answer.text, re.MULTILINE)
    assert 'le="0.001"' in answer.text
    assert 'le="30.0"' in answer.text
    for name in ("sie_batch_size_count", "sie_queue_depth", "sie_model_memory_bytes"):
        assert re.search(rf"^{name}\b", answer.text, re.MULTILINE)
    assert re.search(r'^sie_model_loaded{device="\w[^"]*",model="bert"} 1.0$', answer.text, re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "body", "model", "status"),
    [
        ("/v1/score/bert", BODY, "bert", "200"),
        ("/v1/score/bert:default", BODY, "bert", "200"),
        ("/v1/score/bert", {}, "bert", "400"),
        ("/v1/score/xyzzy", BODY, "unknown", "404"),
        ("/v1/encode/bert-encoder", {"items": [{"text": "it"}]}, "bert-encoder", "200"),
    ],
)
def test_requests_are_counted(api: httpx2.Client, path: str, body: Any, model: str, status: str) -> None:
    labels = {"endpoint": path.split("/")[2], "model": model, "status": status}
    before = metric(api, "sie_requests_total", **labels)
    assert str(api.post(path, json=body).status_code) == status
    assert metric(api, "sie_requests_total", **labels) == before + 1


@pytest.mark.parametrize("model", ["bert", EMBEDDED])
def test_processed_tokens_are_those_of_usage(api: httpx2.Client, model: str) -> None:
    api.post(f"/v1/score/{model}", json=BODY)
    before = metric(api, "sie_tokens_processed_total", model=model)
    usage = api.post(f"/v1/score/{model}", json=BODY).json()["usage"]
    assert metric(api, "sie_tokens_processed_total", model=model) == before + usage["input_tokens"]


# --- OpenAPI ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/v1/score/{model}", BODY),
        ("post", "/v1/score/{model}", {**BODY, "options": {"return_tokens": True, "long_documents": "chunk_max"}}),
        ("post", "/v1/score/{model}", {}),
        ("post", "/v1/score/{model}", {**BODY, "query": {}}),
        ("post", "/v1/encode/{model}", {"items": [{"id": "a", "text": "it"}]}),
        (
            "post",
            "/v1/encode/{model}",
            {
                "items": [{"text": "it"}],
                "params": {"output_types": ["dense", "multivector"], "output_dtype": "int8"},
            },
        ),
        ("get", "/v1/models", None),
        ("get", "/v1/models/{model}", None),
    ],
)
def test_answers_follow_the_openapi_document(api: httpx2.Client, method: str, path: str, body: Any) -> None:
    document = api.get("/openapi.json").json()
    answer = api.request(method, path.format(model=EMBEDDED), json=body)
    response = document["paths"][path][method]["responses"][str(answer.status_code)]
    schema = response["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())


def test_the_openapi_document_names_every_route_and_every_schema(api: httpx2.Client) -> None:
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == __version__
    assert set(document["paths"]) == {
        *("/v1/score/{model}", "/v1/encode/{model}", "/v1/extract/{model}", *EMBED_ROUTES, *TEI_ROUTES),
        *(path.replace(":path", "") for path in ROUTES),
        *(f"{prefix}/v1/models{rest}" for prefix in LISTED for rest in ("", "/{model}")),
        *("/info", "/tei/info", "/v1/cluster/auth", "/xinference/v1/cluster/auth"),
        *("/healthz", "/readyz", "/livez", "/health", "/v1/health/ready", "/ping", "/metrics", "/ws/status"),
    }
    references = set(re.findall(r'"#/components/schemas/(\w+)"', str(document).replace("'", '"')))
    assert references
    assert references <= document["components"]["schemas"].keys()
