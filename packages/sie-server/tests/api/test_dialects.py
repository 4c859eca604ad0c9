"""The rerank routes of other APIs: what each of their clients sends, and exactly what it reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema_rs import Draft202012Validator

from sie_server.api.dialects.spans import RelevantSpans, relevant_spans
from sie_server.api.dialects.table import ROUTES
from sie_server.http.error_responses import is_foreign
from sie_testing.late_interaction_checkpoints import pylate
from sie_testing.serving import EMBEDDED, connect, in_process, scores

QUERY = "what is python"
DOCUMENTS = ["snakes are reptiles", "python is a language", "it"]
TEXTS = [{"text": text} for text in DOCUMENTS]
COHERE = {"model": EMBEDDED, "query": QUERY, "documents": DOCUMENTS}
FULL = {"id", "object", "model", "results", "usage", "meta"}


@pytest.fixture(scope="module")
def ranked(models: Path) -> Iterator[httpx2.Client]:
    """A client of a server with one preloaded model, which has a vendor's name too."""
    flags: dict[str, Any] = {"preload": (EMBEDDED,), "alias": (f"rerank-v3.5={EMBEDDED}",)}
    with in_process(model=(str(models / "bert"),), **flags) as running, connect(running.url) as client:
        yield client


def post(api: httpx2.Client, path: str, body: Any) -> Any:
    """The answer, which the OpenAPI document describes."""
    answer = api.post(path, json=body)
    assert answer.status_code == 200, answer.text
    document = api.get("/openapi.json").json()
    schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())
    return answer.json()


# Path, body as the client sends it, keys at the top, list, its keys for an item, score, whether the text comes back.
CLIENTS: list[tuple[str, str, Any, set[str], str, set[str]]] = [
    (
        "cohere v2",
        "/v2/rerank",
        {**COHERE, "max_tokens_per_doc": 4096, "priority": 0},
        FULL,
        "results",
        {"index", "relevance_score"},
    ),
    (
        "cohere v1",
        "/cohere/v1/rerank",
        {**COHERE, "documents": TEXTS, "rank_fields": ["text"], "return_documents": True},
        FULL,
        "results",
        {"index", "relevance_score", "document"},
    ),
    (
        "Elasticsearch cohere",
        "/v2/rerank",
        {**COHERE, "return_documents": True, "top_n": 3, "max_chunks_per_doc": 2},
        FULL,
        "results",
        {"index", "relevance_score", "document"},
    ),
    (
        "Weaviate cohere",
        "/v2/rerank",
        {**COHERE, "return_documents": False},
        FULL,
        "results",
        {"index", "relevance_score"},
    ),
    (
        "LiteLLM hosted_vllm",
        "/rerank",
        {**COHERE, "return_documents": True, "max_tokens_per_doc": 100, "truncation_side": "right"},
        FULL,
        "results",
        {"index", "relevance_score", "document"},
    ),
    ("Milvus vllm", "/rerank", {"query": QUERY, "documents": DOCUMENTS}, FULL, "results", {"index", "relevance_score"}),
    (
        "Milvus tei",
        "/rerank",
        {"query": QUERY, "texts": DOCUMENTS, "truncate": True, "truncation_direction": "Right"},
        set(),
        "",
        {"index", "score"},
    ),
    (
        "LiteLLM huggingface",
        "/rerank",
        {
            "raw_scores": False,
            "truncation_direction": "Right",
            "query": QUERY,
            "texts": DOCUMENTS,
            "return_text": True,
            "top_n": 3,
        },
        set(),
        "",
        {"index", "score", "text"},
    ),
    (
        "voyageai",
        "/rerank",
        {"query": QUERY, "documents": DOCUMENTS, "model": EMBEDDED, "top_k": None, "truncation": True},
        {"object", "data", "model", "usage"},
        "data",
        {"index", "relevance_score"},
    ),
    (
        "mixedbread",
        "/v1/reranking",
        {
            "model": EMBEDDED,
            "query": QUERY,
            "input": DOCUMENTS,
            "top_k": 3,
            "return_input": True,
            "rewrite_query": False,
        },
        {"usage", "model", "data", "object", "top_k", "return_input"},
        "data",
        {"index", "score", "input", "object"},
    ),
    (
        "zeroentropy",
        "/v1/models/rerank",
        {"documents": DOCUMENTS, "model": EMBEDDED, "query": QUERY, "latency": None, "top_n": None},
        {"actual_latency_mode", "e2e_latency", "inference_latency", "results", "total_bytes", "total_tokens"},
        "results",
        {"index", "relevance_score"},
    ),
    (
        "pinecone",
        "/pinecone/rerank",
        {
            "model": EMBEDDED,
            "query": QUERY,
            "documents": TEXTS,
            "rank_fields": ["text"],
            "return_documents": True,
            "parameters": {"truncate": "END"},
        },
        {"model", "data", "usage"},
        "data",
        {"index", "score", "document"},
    ),
    (
        "NVIDIA",
        "/v1/ranking",
        {"model": EMBEDDED, "query": {"text": QUERY}, "passages": TEXTS, "truncate": "END"},
        {"rankings", "usage"},
        "rankings",
        {"index", "logit"},
    ),
    (
        "infinity",
        "/infinity/rerank",
        {**COHERE, "return_documents": True},
        {"object", "results", "model", "usage", "id", "created"},
        "results",
        {"index", "relevance_score", "document"},
    ),
    (
        "rerankers isaacus",
        "/v1/rerankings",
        {"model": EMBEDDED, "query": QUERY, "texts": DOCUMENTS, "top_n": 3, "return_documents": True},
        {"results", "usage"},
        "results",
        {"index", "score"},
    ),
    (
        "fireworks",
        "/inference/v1/rerank",
        COHERE,
        {"object", "model", "data", "usage"},
        "data",
        {"index", "relevance_score", "document"},
    ),
    (
        "DashScope",
        "/compatible-api/v1/reranks",
        {**COHERE, "instruct": None, "return_documents": True},
        FULL,
        "results",
        {"index", "relevance_score", "document"},
    ),
    ("Milvus sglang", "/sglang/v1/rerank", COHERE, set(), "", {"index", "score", "document", "meta_info"}),
    (
        "xinference_client",
        "/v1/rerank",
        {
            **COHERE,
            "top_n": None,
            "max_chunks_per_doc": None,
            "return_documents": "false",
            "return_len": "true",
            "kwargs": "{}",
        },
        FULL,
        "results",
        {"index", "relevance_score"},
    ),
]


@pytest.mark.parametrize(
    ("path", "body", "top", "field", "keys"), [c[1:] for c in CLIENTS], ids=[c[0] for c in CLIENTS]
)
def test_a_client_s_request_gets_exactly_the_keys_it_reads(
    ranked: httpx2.Client, path: str, body: Any, top: set[str], field: str, keys: set[str]
) -> None:
    answer = post(ranked, path, body)
    items = answer[field] if field else answer
    if top:
        assert set(answer) == top
    assert [set(item) for item in items] == [keys] * 3
    own = scores(ranked, EMBEDDED, QUERY, DOCUMENTS)
    assert [item["index"] for item in items] == sorted(range(3), key=lambda i: -own[i])
    told = [item[next(iter({"relevance_score", "score", "logit"} & keys))] for item in items]
    assert told == sorted(told, reverse=True)
    if path not in ("/v1/rerank", "/v1/ranking"):  # which have the model's own scores
        assert 0 < told[-1] < told[0] < 1
    if path == "/infinity/rerank":
        assert [item["document"] for item in items] == [DOCUMENTS[item["index"]] for item in items]
    elif "document" in keys and field == "results":
        assert [item["document"] for item in items] == [TEXTS[item["index"]] for item in items]


def test_weaviate_s_container(ranked: httpx2.Client) -> None:
    answer = post(ranked, "/rerank", {"query": QUERY, "documents": DOCUMENTS, "property": ""})
    assert set(answer) == {"scores"}
    assert {item["document"] for item in answer["scores"]} == {*DOCUMENTS}


@pytest.mark.parametrize(
    "body",
    [
        {"text_1": QUERY, "text_2": DOCUMENTS},
        {"data_1": [QUERY], "data_2": DOCUMENTS},
        {"queries": QUERY, "documents": DOCUMENTS},
        {"queries": [QUERY] * 3, "items": DOCUMENTS},
    ],
)
@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_scores_of_pairs_are_in_the_order_of_the_request(ranked: httpx2.Client, path: str, body: Any) -> None:
    found = post(ranked, path, body)["data"]
    assert [(each["index"], each["object"]) for each in found] == [(i, "score") for i in range(3)]
    expected = {r["index"]: r["relevance_score"] for r in post(ranked, "/v2/rerank", COHERE)["results"]}
    assert [each["score"] for each in found] == [expected[i] for i in range(3)]


@pytest.mark.parametrize("prefix", ["", "/deepinfra"])
def test_deepinfra_s_scores_are_in_the_order_of_the_request(ranked: httpx2.Client, prefix: str) -> None:
    body = {"queries": [QUERY] * 3, "documents": DOCUMENTS, "service_tier": "default"}
    answer = ranked.post(f"{prefix}/v1/inference/{EMBEDDED}", json=body)
    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {"scores", "input_tokens", "request_id", "inference_status"}
    expected = [each["score"] for each in post(ranked, "/score", {"text_1": QUERY, "text_2": DOCUMENTS})["data"]]
    assert told["scores"] == expected
    wrong = ranked.post(f"{prefix}/v1/inference/nobody/nothing", json=body)
    assert (wrong.status_code, wrong.json()["detail"]) == (404, "Model 'nobody/nothing' not found")


def test_pairs_of_their_own(ranked: httpx2.Client) -> None:
    found = post(ranked, "/score", {"queries": ["python", "snakes", "python"], "documents": DOCUMENTS})["data"]
    for query, document, each in zip(["python", "snakes", "python"], DOCUMENTS, found, strict=True):
        alone = post(ranked, "/score", {"text_1": query, "text_2": document})["data"]
        assert [one["score"] for one in alone] == [each["score"]]
    answer = ranked.post("/score", json={"queries": ["a", "b"], "documents": DOCUMENTS})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "queries")
    told = "'queries' has 2 texts and 'documents' has 3: send one text in 'queries', or as many as in 'documents'"
    assert answer.json()["message"] == told


def test_scores_before_the_activation(ranked: httpx2.Client) -> None:
    body = {"model": "bert", "query": "w1", "documents": ["w2", "w3 w4"]}
    unit = [each["relevance_score"] for each in post(ranked, "/vllm/rerank", body)["results"]]
    assert unit == sorted(scores(ranked, "bert", "w1", body["documents"]), reverse=True)
    for fields in ({"raw_scores": True}, {"use_activation": False}, {"softmax": "false"}):
        raw = [each["relevance_score"] for each in post(ranked, "/vllm/rerank", {**body, **fields})["results"]]
        assert [1 / (1 + 2.718281828459045**-score) for score in raw] == pytest.approx(unit)


def test_documents_are_cut_as_asked(ranked: httpx2.Client) -> None:
    long = {**COHERE, "documents": ["snakes python reptiles", "it"]}
    whole = post(ranked, "/v2/rerank", long)
    assert "warnings" not in whole["meta"]
    for fields in ({"max_tokens_per_doc": 1}, {"max_doc_length": 1}, {"options": {"max_document_length": 1}}):
        cut = post(ranked, "/v2/rerank", {**long, **fields})
        assert cut["meta"]["warnings"] == ["1 of 2 documents were truncated to the token limit"]
        short = post(ranked, "/v2/rerank", {**long, "documents": ["snakes", "it"]})
        assert cut["results"] == short["results"]
    for fields in (
        {"truncation_side": "left"},
        {"truncation_direction": "Left"},
        {"truncate": "START"},
        {"options": {"truncation_side": "left"}},
    ):
        cut = post(ranked, "/v2/rerank", {**long, "max_tokens_per_doc": 1, **fields})
        short = post(ranked, "/v2/rerank", {**long, "documents": ["reptiles", "it"]})
        assert cut["results"] == short["results"]
    for fields in ({"truncation": False}, {"truncate": "NONE"}, {"truncate": False}):
        answer = ranked.post("/rerank", json={**COHERE, "documents": ["python " * 1000], **fields})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INPUT_TOO_LONG")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v2/rerank", {"query": QUERY, "documents": ["it", "python " * 1000]}, "documents[1]"),
        ("/rerank", {"query": QUERY, "texts": ["python " * 1000]}, "texts[0]"),
        # The second query's only document is the third of the request.
        ("/score", {"queries": ["a", "a", "b"], "documents": ["it", "it", "python " * 1000]}, "documents[2]"),
    ],
)
def test_errors_name_the_field_as_the_client_calls_it(ranked: httpx2.Client, path: str, body: Any, field: str) -> None:
    told = ranked.post(path, json={**body, "truncate": False}).json()
    assert f"Field '{field}' has 1000 tokens" in str(told["error"])


@pytest.fixture(scope="module")
def spanned(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server with a late-interaction model and a cross-encoder."""
    pylate(folder := tmp_path_factory.mktemp("late"))
    with in_process(model=(f"late={folder}", str(models / "bert"))) as running, connect(running.url) as client:
        yield client


def test_relevant_spans_are_the_tokens_that_match(spanned: httpx2.Client) -> None:
    body = {"model": "late", "query": "python language", "documents": ["it is  python, who", "snakes"]}
    items = [{"text": text} for text in body["documents"]]
    options = {"return_highlights": True}
    own = spanned.post("/v1/score/late", json={"query": {"text": body["query"]}, "items": items, "options": options})
    highlights = {each["item_id"]: each["highlights"] for each in own.json()["scores"]}
    for path in ("/v2/rerank", "/cohere/v2/rerank", "/v1/rerank"):
        answer = post(spanned, path, {**body, "relevant_spans": {"mode": "enabled", "threshold": 0.0}})
        assert "warnings" not in answer["meta"]
        for result in answer["results"]:
            document = body["documents"][result["index"]]
            spans = result["relevant_spans"]
            assert [set(span) for span in spans] == [{"start", "end", "score"}] * len(spans)
            scores = [span["score"] for span in spans]
            assert scores == sorted(scores, reverse=True)
            found = [each for each in highlights[f"item-{result['index']}"] if each["document"] is not None]
            for each in found:  # each token that matched, and that is no better than its span
                start, end = each["document"]
                [span] = [span for span in spans if span["start"] <= start and end <= span["end"]]
                assert span["score"] >= min(each["score"], 1) - 1e-6
            assert all(document[span["start"] : span["end"]].strip() for span in spans)
    one = post(spanned, "/v2/rerank", {**body, "relevant_spans": {"threshold": 0.0, "max_spans": 1}})["results"]
    assert [len(result["relevant_spans"]) for result in one] == [1, 1]
    none = post(spanned, "/v2/rerank", {**body, "relevant_spans": {"mode": "disabled"}})["results"]
    assert [set(result) for result in none] == [{"index", "relevance_score"}] * 2


def test_the_relevant_span_of_a_cross_encoder_is_its_best_window(spanned: httpx2.Client) -> None:
    document = " ".join(f"w{n}" for n in range(1, 300))
    body = {"model": "bert", "query": "w1", "documents": [document, "w2"], "max_chunks_per_doc": 10}
    answer = post(
        spanned, "/v2/rerank", {**body, "relevant_spans": {"threshold": 0}, "options": {"max_seq_length": 64}}
    )
    items = [{"text": text} for text in body["documents"]]
    options = {"long_documents": "chunk_max", "max_seq_length": 64}
    own = spanned.post("/v1/score/bert", json={"query": {"text": "w1"}, "items": items, "options": options}).json()
    spans = {each["item_id"]: each["span"] for each in own["scores"]}
    for result in answer["results"]:
        [span] = result["relevant_spans"]
        assert [span["start"], span["end"]] == spans[f"item-{result['index']}"]
        assert span["score"] == result["relevance_score"]
    # Without windows there is nothing to tell, which the answer says.
    answer = spanned.post(
        "/v2/rerank", json={"model": "bert", "query": "w1", "documents": ["w2"], "relevant_spans": {}}
    )
    assert answer.headers["x-sie-ignored"] == "relevant_spans"
    assert answer.json()["meta"]["warnings"] == ["field 'relevant_spans' is ignored"]
    assert set(answer.json()["results"][0]) == {"index", "relevance_score"}


def test_tokens_next_to_each_other_are_one_span() -> None:
    tokens = [(0, 2, 0.2), (3, 6, 0.9), (7, 9, 0.05), (11, 12, 0.5), (12, 14, 0.6)]
    found = relevant_spans(tokens, "ab cde fg, hij", RelevantSpans())
    assert [(span.start, span.end, span.score) for span in found] == [(0, 6, 0.9), (11, 14, 0.6)]
    few = relevant_spans(tokens, "ab cde fg, hij", RelevantSpans(threshold=0.55))
    assert [(span.start, span.end, span.score) for span in few] == [(3, 6, 0.9), (12, 14, 0.6)]
    assert relevant_spans(tokens, "ab cde fg, hij", RelevantSpans(max_spans=1)) == found[:1]


@pytest.mark.parametrize("spans", [{"mode": "on"}, {"threshold": 2}, {"max_spans": 0}, 1])
def test_relevant_spans_that_cannot_be(ranked: httpx2.Client, spans: Any) -> None:
    answer = ranked.post("/v2/rerank", json={**COHERE, "relevant_spans": spans})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "relevant_spans")


def test_a_blank_document_among_good_ones_is_scored(ranked: httpx2.Client) -> None:
    assert len(post(ranked, "/v2/rerank", {**COHERE, "documents": ["python", "", " "]})["results"]) == 3


def test_fields_that_change_nothing_are_named(ranked: httpx2.Client) -> None:
    answer = ranked.post("/v2/rerank", json={**COHERE, "user": "x", "kwargs": "{}", "overlap_tokens": None})
    assert answer.headers["x-sie-ignored"] == "user,kwargs"
    assert ranked.post("/v1/rerankings", json={**COHERE, "scoring_method": "auto"}).status_code == 200
    assert answer.json()["meta"]["warnings"] == [
        "field 'user' is ignored",
        "field 'kwargs' is ignored",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"return_embeddings": True},
        {"rewrite_query": "true"},
        {"truncation_side": "middle"},
        {"top_m": 1},
        {"scoring_method": "chunk_average"},
        {"chunking_options": {"size": 512}},
    ],
)
def test_fields_that_would_change_the_answer_are_refused(ranked: httpx2.Client, fields: Any) -> None:
    answer = ranked.post("/v2/rerank", json={**COHERE, **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, *fields)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"texts": ["another"]}, "texts"),
        ({"input": ["another"]}, "input"),
        ({"queries": ["another"] * len(DOCUMENTS)}, "query"),
        ({"items": ["another"]}, "items"),
        ({"top_n": 1, "top_k": 2}, "top_k"),
        ({"raw_scores": True, "use_activation": True}, "raw_scores"),
        ({"return_documents": "true", "return_text": False}, "return_text"),
        ({"instruction": "a", "instruct": "b"}, "instruct"),
        ({"truncation": True, "truncate": "NONE"}, "truncate"),
        ({"max_tokens_per_doc": 3, "max_doc_length": 5}, "max_doc_length"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(ranked: httpx2.Client, fields: Any, field: str) -> None:
    answer = ranked.post("/tei/rerank", json={"query": QUERY, "documents": DOCUMENTS, **fields})
    assert answer.status_code == 422
    assert f"'{field}'" in answer.json()["error"]


def test_options_are_read_or_named(ranked: httpx2.Client) -> None:
    options = {"top_k": 1, "return_tokens": True, "nope": 1}
    body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 1, "top_k": 1, "options": options}
    answer = ranked.post("/v2/rerank", json=body)
    assert len(answer.json()["results"]) == 1
    assert answer.headers["x-sie-ignored"] == "options.nope,options.return_tokens"


def test_pairs_have_no_top_results(ranked: httpx2.Client) -> None:
    body = {"text_1": QUERY, "text_2": DOCUMENTS, "top_n": 1, "return_documents": True, "return_text": True}
    answer = ranked.post("/score", json=body)
    assert len(answer.json()["data"]) == len(DOCUMENTS)
    assert answer.headers["x-sie-ignored"] == "top_n,return_documents,return_text"


def test_parameters_are_fields(ranked: httpx2.Client) -> None:
    body = {"query": QUERY, "texts": DOCUMENTS}
    assert post(ranked, "/rerank", {**body, "parameters": {"return_text": True, "top_n": 1, "truncate": "END"}}) == (
        post(ranked, "/rerank", {**body, "return_text": True, "top_n": 1})
    )
    answer = ranked.post("/v2/rerank", json={**COHERE, "parameters": {"user": 1}})
    assert answer.headers["x-sie-ignored"] == "user"
    for fields, param in (
        ({"parameters": {"wait": 1}}, "wait"),
        ({"parameters": {"top_n": 0.5}}, "top_n"),
        ({"parameters": [1]}, "parameters"),
        ({"parameters": {"top_n": 1}, "top_n": 2}, "parameters.top_n"),
    ):
        answer = ranked.post("/v2/rerank", json={**COHERE, **fields})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_models_by_other_names_and_by_none(ranked: httpx2.Client) -> None:
    expected = post(ranked, "/v2/rerank", COHERE)["results"]
    for model in ("rerank-v3.5", "default", "default/not-specified", None):
        answer = post(ranked, "/v2/rerank", {**COHERE, "model": model})
        assert (answer["model"], answer["results"]) == (EMBEDDED, expected)


def test_a_missing_model_without_a_default_lists_the_names(models: Path) -> None:
    with in_process(model=(str(models / "bert"),), alias=("mine=bert",)) as running, connect(running.url) as client:
        answer = client.post("/rerank", json={"query": "q", "documents": ["d"]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
        assert "Models: mine, " in answer.json()["message"]
        assert (
            client.post("/rerank", json={"query": "q", "documents": ["d"], "model": "mine"}).json()["model"] == "bert"
        )
    with in_process(model=(str(models / "bert"),), default_model="bert") as running, connect(running.url) as client:
        assert client.post("/rerank", json={"query": "q", "documents": ["d"]}).json()["model"] == "bert"


@pytest.mark.parametrize("path", [*ROUTES])
@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"query": 1, "documents": ["a"]}, 400), ({**COHERE, "model": "nobody/nothing"}, 404)],
)
def test_errors_have_the_form_that_a_client_reads(ranked: httpx2.Client, path: str, body: Any, status: int) -> None:
    assert is_foreign(path)
    answer = ranked.post(path, json=body)
    told = answer.json()
    if ROUTES[path].plain_errors:
        assert answer.status_code == {400: 422}.get(status, status)
        assert set(told) == {"error", "error_type"}
        assert isinstance(told["error"], str)
    else:
        assert answer.status_code == status
        assert told["error"]["message"] == told["detail"] == told["message"]


@pytest.mark.parametrize("path", ["/info", "/tei/info"])
def test_tei_s_description_of_the_default_model(ranked: httpx2.Client, path: str) -> None:
    told = ranked.get(path).json()
    assert (told["model_id"], told["max_input_length"], told["auto_truncate"]) == (EMBEDDED, 256, True)
    assert set(told["model_type"]) == {"reranker"}


@pytest.mark.parametrize("count", [10_001, 200_000])
def test_too_many_texts_are_refused_in_the_form_of_their_api(ranked: httpx2.Client, count: int) -> None:
    answer = ranked.post("/rerank", json={"query": QUERY, "texts": ["a"] * count})
    told = {"error": "Field 'texts' must contain at most 10000 documents", "error_type": "Validation"}
    assert (answer.status_code, answer.json()) == (422, told)


def test_texts_of_a_large_body_are_whole(ranked: httpx2.Client) -> None:
    text = "b " * 300_000
    for body in ({"documents": ["a", {"text": text}]}, {"texts": ["a", text]}, {"passages": [{"text": text}]}):
        answer = post(ranked, "/rerank", {"query": QUERY, **body, "return_documents": True})
        items = answer if isinstance(answer, list) else answer.get("results", [])
        assert {len(item["document"]["text"] if "document" in item else item["text"]) for item in items} <= {1, 600_000}
