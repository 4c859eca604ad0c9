"""TEI's routes that no other API has: predictions, tokens, and requests that only their body tells apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema_rs import Draft202012Validator
from tokenizers import Tokenizer

from sie_testing.serving import EMBEDDED, connect, in_process, metric

QUERY = "what is python"
DOCUMENTS = ["snakes are reptiles", "python is a language", "it"]
ANY = pytest.mark.parametrize("path", ["/", "/invocations", "/tei", "/tei/invocations"])


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[httpx2.Client]:
    """A client of a server with one preloaded model, which scores and embeds, and a cross-encoder."""
    with in_process(model=(str(models / "bert"),), preload=(EMBEDDED,)) as running, connect(running.url) as client:
        yield client


def post(api: httpx2.Client, path: str, **body: Any) -> Any:
    """The answer, which the OpenAPI document describes."""
    answer = api.post(path, json=body)
    assert answer.status_code == 200, answer.text
    document = api.get("/openapi.json").json()
    schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())
    return answer.json()


def refusal(api: httpx2.Client, path: str, **body: Any) -> tuple[int, str, str]:
    """Status, type and text of an error."""
    answer = api.post(path, json=body)
    told = answer.json()
    assert told.keys() == {"error", "error_type"}
    return answer.status_code, told["error_type"], told["error"]


@ANY
def test_the_body_tells_what_is_asked_for(served: httpx2.Client, path: str) -> None:
    ranking: dict[str, Any] = {"query": QUERY, "texts": DOCUMENTS, "return_text": True}
    assert post(served, path, **ranking) == post(served, "/rerank", **ranking)
    texts: dict[str, Any] = {"inputs": DOCUMENTS, "normalize": False}
    assert post(served, path, **texts) == post(served, "/embed", **texts)
    assert post(served, path, inputs="it") == post(served, "/embed", inputs="it")
    pairs: dict[str, Any] = {"inputs": [[QUERY, text] for text in DOCUMENTS]}
    assert post(served, path, **pairs) == post(served, "/predict", **pairs)


@ANY
def test_large_bodies_too(served: httpx2.Client, path: str) -> None:
    texts = ["it " * 100_000, *DOCUMENTS]
    for body in ({"query": QUERY, "texts": texts}, {"inputs": texts}, {"inputs": [[QUERY, text] for text in texts]}):
        answer = post(served, path, **body)
        assert len(answer) == 4
        kind = "score" if "query" in body else "label" if isinstance(body["inputs"][0], list) else None
        assert kind is None or kind in (answer[0] if "query" in body else answer[0][0])


@ANY
@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"inputs": []}, 422), ({"texts": ["a"]}, 422), ({"inputs": "a", "model": "nobody/nothing"}, 404)],
)
def test_bodies_that_ask_for_nothing(served: httpx2.Client, path: str, body: Any, status: int) -> None:
    assert refusal(served, path, **body)[0] == status


@pytest.mark.parametrize(
    ("path", "endpoint", "field"),
    [
        ("/", "tei", "inputs"),
        ("/tei/predict", "tei", "inputs"),
        ("/embed", "embeddings", "inputs"),
        ("/cohere/v2/embed", "embeddings", "texts"),
        ("/v2/rerank", "rerank", "documents"),
        ("/vllm/rerank", "rerank", "documents"),
    ],
)
def test_errors_of_every_api_are_counted(served: httpx2.Client, path: str, endpoint: str, field: str) -> None:
    labels = {"model": "unknown", "endpoint": endpoint, "code": "INVALID_INPUT"}
    before = metric(served, "sie_errors_total", **labels)
    assert served.post(path, json={field: []}).status_code in (400, 422)
    assert metric(served, "sie_errors_total", **labels) == before + 1


def test_the_page_for_people_is_still_there(served: httpx2.Client) -> None:
    assert served.get("/", follow_redirects=False).headers["location"] == "/docs"


# --- predictions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/tei"])
@pytest.mark.parametrize("model", [EMBEDDED, "bert"])
@pytest.mark.parametrize("fields", [{}, {"raw_scores": True}, {"truncate": True, "truncation_direction": "Left"}])
def test_predictions_are_the_scores_of_pairs(
    served: httpx2.Client, prefix: str, model: str, fields: dict[str, Any]
) -> None:
    ranks = post(served, "/rerank", model=model, query=QUERY, texts=DOCUMENTS, **fields)
    scores = {rank["index"]: rank["score"] for rank in ranks}
    told = post(served, f"{prefix}/predict", model=model, inputs=[[QUERY, text] for text in DOCUMENTS], **fields)
    assert told == [[{"score": scores[index], "label": "LABEL_0"}] for index in range(3)]
    alone = post(served, f"{prefix}/predict", model=model, inputs=[QUERY, DOCUMENTS[0]], **fields)
    assert alone == told[0]


@pytest.mark.parametrize(
    ("inputs", "at"),
    [
        ("a", "inputs"),
        (["a"], "inputs"),
        (["a", "b", "c"], "inputs"),
        ([["a"]], "inputs[0]"),
        ([["a", "b"], "c"], "inputs[1]"),
        ([["a", "b"], ["c"]], "inputs[1]"),
        ([["a", 1]], "inputs"),
        ([], "inputs"),
        (None, "inputs"),
    ],
)
def test_what_is_no_pair(served: httpx2.Client, inputs: Any, at: str) -> None:
    told = f"'{at}' must be a pair of texts, a query and a document, or a list of such pairs; no model classifies"
    status, kind, message = refusal(served, "/predict", inputs=inputs)
    assert (status, kind) == (422, "Validation")
    assert message.startswith(told)


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/tokenize", "/tei/tokenize"])
def test_tokens_are_those_of_the_model_s_tokenizer(served: httpx2.Client, models: Path, path: str) -> None:
    reference = Tokenizer.from_file(str(models / "bert" / "tokenizer.json"))
    texts = ["python is a  language", "", "naïve 🐍 it"]
    for special in (True, False):
        told = post(served, path, model="bert", inputs=texts, add_special_tokens=special)
        for text, tokens in zip(texts, told, strict=True):
            expected = reference.encode(text, add_special_tokens=special)
            assert [token["id"] for token in tokens] == expected.ids
            assert [token["special"] for token in tokens] == [mask == 1 for mask in expected.special_tokens_mask]
            for token in tokens:
                if token["special"]:
                    assert (token["start"], token["stop"]) == (None, None)
                    assert reference.token_to_id(token["text"]) == token["id"]
                else:
                    assert text[token["start"] : token["stop"]] == token["text"] != ""
    assert post(served, path, model="bert", inputs="it") == post(served, path, model="bert", inputs=["it"])


@pytest.mark.parametrize("path", ["/decode", "/tei/decode"])
def test_token_ids_are_decoded(served: httpx2.Client, models: Path, path: str) -> None:
    reference = Tokenizer.from_file(str(models / "bert" / "tokenizer.json"))
    ids = [reference.encode(text).ids for text in DOCUMENTS]
    for skip in (True, False):
        expected = [reference.decode(each, skip_special_tokens=skip) for each in ids]
        assert post(served, path, model="bert", ids=ids, skip_special_tokens=skip) == expected
    assert post(served, path, model="bert", ids=ids[0]) == [reference.decode(ids[0])]


def test_many_tokens(served: httpx2.Client) -> None:
    told = post(served, "/tokenize", inputs=["python " * 60_000, "it"])
    assert [len(each) for each in told] == [60_002, 3]
    ids = [token["id"] for token in told[0][1:-1]]
    assert post(served, "/decode", ids=ids) == [("python " * 60_000).strip()]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/tokenize", {"inputs": []}, "Field 'inputs' must not be empty"),
        ("/tokenize", {}, "Field 'inputs' must not be empty"),
        ("/tokenize", {"inputs": [1]}, "'inputs' must be a text, or a list of texts"),
        ("/tokenize", {"inputs": "a", "prompt_name": "query"}, "'prompt_name' is not supported here"),
        ("/tokenize", {"inputs": ["a"] * 10_001}, "Field 'inputs' must contain at most 10000 texts"),
        ("/tokenize", {"inputs": ["a" * 1_900_000]}, "Field 'inputs' makes a response that takes up to 957,600,504"),
        ("/decode", {"ids": []}, "Field 'ids' must not be empty"),
        ("/decode", {"ids": ["a"]}, "'ids' must be a list of token ids, or a list of such lists"),
        ("/decode", {"ids": [[1], 2]}, "'ids' must be a list of token ids, or a list of such lists"),
        ("/decode", {"ids": [10**6]}, "Field 'ids' has 1000000, which is outside of the vocabulary of 30522 tokens"),
        ("/decode", {"ids": [-1]}, "Field 'ids' has -1, which is outside of the vocabulary of 30522 tokens"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_has_no_tokens(served: httpx2.Client, path: str, body: Any, message: str) -> None:
    status, kind, told = refusal(served, path, **body)
    assert (status, kind) == (422, "Validation")
    assert told.startswith(message)


def test_the_description_of_a_model_that_only_embeds(models: Path) -> None:
    flags: dict[str, Any] = {"model": (str(models / "bert-encoder"),), "default_model": "bert-encoder"}
    with in_process(**flags, preload=("bert-encoder",)) as running, connect(running.url) as client:
        told = client.get("/info").json()
        assert (told["model_id"], {*told["model_type"]} <= {"embedding", "reranker"}) == ("bert-encoder", True)
