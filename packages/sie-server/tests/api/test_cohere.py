"""`POST /v1/rerank` and `POST /v1/extract/{model}`: what clients of the public SIE get from them."""

import json
from typing import Any

import httpx2
import pytest

from sie_testing.serving import EMBEDDED, error, metric, scores

DOCUMENTS = ["snakes are reptiles", "python is a language", "it"]
BODY: dict[str, Any] = {"model": EMBEDDED, "query": "what is python", "documents": DOCUMENTS}


def rerank(api: httpx2.Client, **fields: Any) -> httpx2.Response:
    return api.post("/v1/rerank", json={**BODY, **fields})


def test_the_ranking_is_that_of_score(api: httpx2.Client) -> None:
    expected = scores(api, EMBEDDED, BODY["query"], DOCUMENTS)
    before = metric(api, "sie_requests_total", endpoint="rerank", model=EMBEDDED, status="200")
    answer = rerank(api)
    assert answer.headers["content-type"] == "application/json"
    assert float(answer.headers["x-total-time"]) > 0
    body = answer.json()
    assert (body["model"], set(body)) == (EMBEDDED, {"id", "object", "model", "results", "usage", "meta"})
    assert [set(result) for result in body["results"]] == [{"index", "relevance_score"}] * 3
    order = sorted(range(3), key=lambda i: -expected[i])
    assert [(r["index"], r["relevance_score"]) for r in body["results"]] == [(i, expected[i]) for i in order]
    assert body["usage"]["input_tokens"] == body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 10
    assert metric(api, "sie_requests_total", endpoint="rerank", model=EMBEDDED, status="200") == before + 1


@pytest.mark.parametrize("route", ["rerank", "score"])
def test_a_long_instruction_is_read_however_large_the_body_is(api: httpx2.Client, route: str) -> None:
    # Too long for a token of its own, so that query and instruction fit.
    asked = {"instruction": "z" * 20_000}

    def ranked(documents: list[str]) -> list[float]:
        if route == "score":
            return scores(api, EMBEDDED, BODY["query"], documents, options=asked)
        results = rerank(api, documents=documents, options=asked).json()["results"]
        return [result["relevance_score"] for result in sorted(results, key=lambda result: result["index"])]

    assert (
        ranked([*DOCUMENTS, "x" * 300_000])[:3] == ranked(DOCUMENTS) != scores(api, EMBEDDED, BODY["query"], DOCUMENTS)
    )


def test_the_best_with_their_documents(api: httpx2.Client) -> None:
    every = rerank(api).json()["results"]
    best = rerank(api, top_n=2, return_documents=True, options={"return_tokens": True}).json()["results"]
    assert best == [{**result, "document": {"text": DOCUMENTS[result["index"]]}} for result in every[:2]]
    for fields in ({"top_n": None}, {"top_n": 99}, {"options": None}, {"options": {"profile": "default"}}):
        assert rerank(api, **fields).json()["results"] == every


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        *(({"query": q}, "query", "'query' must be a non-empty string") for q in ("", " \n", None, 1, ["a"], {})),
        *(({"model": m}, "model", "'model' must be a non-empty string") for m in ("", " ", 1)),
        *(
            ({"documents": d}, "documents", "'documents' must be a non-empty array of strings")
            for d in ([], "a", None, ["a", 1])
        ),
        *(
            ({"documents": d}, "documents", "'documents' must be a non-empty array of strings. documents[0] is blank")
            for d in ([""], [" \u2028\u00a0", ""])
        ),
        *(({"top_n": n}, "top_n", "'top_n' must be a positive integer") for n in (0, -1, True, 1.5, "1", [])),
        ({"return_documents": 1}, "return_documents", "'return_documents' must be a boolean"),
        ({"rank_feilds": ["a"]}, "rank_feilds", "field 'rank_feilds' is not supported. Did you mean 'rank_fields'?"),
        ({"options": 1}, "options", "'options' is invalid: Expected `object | null`, got `int`"),
        ({"options": {"profile": "x"}}, None, "Profile 'x' not found. Available: ['default']"),
    ],
)
def test_fields_that_are_wrong(api: httpx2.Client, fields: Any, param: str | None, message: str) -> None:
    answer = rerank(api, **fields)
    assert answer.status_code == 400
    said = {"message": message, "type": "invalid_request_error", "param": param, "code": "INVALID_INPUT"}
    assert answer.json() == {"error": said, "detail": message, "message": message}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"a"', b"{}", b'{"documents":["\xff"]}', b"[" * 100_000])
def test_invalid_bodies(api: httpx2.Client, body: bytes) -> None:
    answer = api.post("/v1/rerank", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_INPUT")


@pytest.mark.parametrize("name", ["options", "documents", "model", "query", "top_n"])
def test_deep_nesting(api: httpx2.Client, name: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    fields = [json.dumps(key).encode() + b":" + json.dumps(value).encode() for key, value in BODY.items()]
    answer = api.post("/v1/rerank", content=b"{" + b",".join([*fields, b'"%s":' % name.encode() + deep]) + b"}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_INPUT")


def test_unknown_models(api: httpx2.Client) -> None:
    answer = rerank(api, model="nobody/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")
    answer = rerank(api, model="bert-encoder")
    assert "does not support scoring" in answer.json()["error"]["message"]


def test_nothing_is_extracted(api: httpx2.Client) -> None:
    body = {"items": [{"text": "it"}], "params": {"labels": ["a"]}}
    assert error(api.post("/v1/extract/nobody/nothing", json=body))[:2] == (404, "MODEL_NOT_FOUND")
    message = "does not support extraction. Use an extraction model like GLiNER, GLiClass, or Florence-2."
    refused = (400, "INVALID_INPUT", f"Model 'bert' {message}")
    assert error(api.post("/v1/extract/bert", json=body)) == refused
    assert error(api.post("/v1/extract/bert", json={"items": []}))[2] == "Field 'items' must not be empty"


def test_the_start_page_is_the_documentation(api: httpx2.Client) -> None:
    answer = api.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
