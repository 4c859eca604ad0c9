"""POST /v1/score/{model}, as a client sees it."""

import http.client
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgpack
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from sie_testing.checkpoints import ARCHITECTURES, text
from sie_testing.serving import EMBEDDED, Server, connect, error, in_process, scores

QUERY = "what is python"
DOCUMENTS = ["snakes are reptiles", "python is a programming language", "who made it", "w40 w41"]
BODY = {"query": {"id": "q1", "text": QUERY}, "items": [{"text": document} for document in DOCUMENTS]}
MODELS = [EMBEDDED, "bert", "xlm-roberta"]
JSON, MSGPACK = "application/json", "application/msgpack"

MIB = 2**20


def raw_post(server: Server, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
    """Status, content type and body; no header is sent that is not named here."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    try:
        connection.putrequest("POST", "/v1/score/bert", skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("model", MODELS)
def test_ranking(api: httpx2.Client, model: str) -> None:
    answer = api.post(f"/v1/score/{model}", json=BODY)
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    body = answer.json()
    assert body.keys() == {"model", "query_id", "scores", "usage"}
    assert (body["model"], body["query_id"]) == (model, "q1")
    assert all(entry.keys() == {"item_id", "score", "rank"} for entry in body["scores"])
    assert [entry["rank"] for entry in body["scores"]] == [0, 1, 2, 3]
    assert sorted(entry["item_id"] for entry in body["scores"]) == [f"item-{i}" for i in range(4)]
    values = [entry["score"] for entry in body["scores"]]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


def test_the_better_document_wins(api: httpx2.Client) -> None:
    documents = ["Snakes are reptiles.", "Python is a programming language.", "The weather is fine."]
    values = scores(api, EMBEDDED, "What is Python?", documents)
    assert values.index(max(values)) == 1


@pytest.mark.parametrize("name", ["bert", "xlm-roberta"])
def test_a_probability_is_the_sigmoid_of_the_reference_logit(exact: httpx2.Client, models: Path, name: str) -> None:
    reference = ARCHITECTURES[name][0].from_pretrained(models / name).eval()
    tokenizer = Tokenizer.from_file(str(models / name / "tokenizer.json"))
    expected = []
    for document in DOCUMENTS:
        pair = tokenizer.encode(QUERY, document)
        types = {"token_type_ids": torch.tensor([pair.type_ids])} if name == "bert" else {}
        with torch.no_grad():
            [[logit]] = reference(input_ids=torch.tensor([pair.ids]), **types).logits.tolist()
        expected.append(1 / (1 + math.exp(-logit)))
    assert scores(exact, name, QUERY, DOCUMENTS) == pytest.approx(expected, abs=1e-5)


def test_an_embedding_model_scores_by_maxsim_of_its_token_vectors(api: httpx2.Client) -> None:
    items = [{"text": text} for text in [QUERY, *DOCUMENTS]]
    answer = api.post(f"/v1/encode/{EMBEDDED}", json={"items": items, "params": {"output_types": ["multivector"]}})
    query, *documents = [np.array(item["multivector"]["values"]) for item in answer.json()["items"]]
    expected = [(query @ document.T).max(axis=1).sum() for document in documents]
    assert scores(api, EMBEDDED, QUERY, DOCUMENTS) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_documents_do_not_influence_each_other(api: httpx2.Client, model: str) -> None:
    documents = [*DOCUMENTS, text(100, seed=1)]
    alone = [scores(api, model, QUERY, [document])[0] for document in documents]
    assert scores(api, model, QUERY, documents) == alone
    assert scores(api, model, QUERY, documents[::-1]) == alone[::-1]


def test_concurrent_requests_get_their_own_answers(api: httpx2.Client) -> None:
    def queries(n: int) -> tuple[str, list[str]]:
        return text(3 + n % 5, seed=n), [text(1 + (n * k) % 30, seed=k) for k in range(20)]

    def request(n: int) -> list[float]:
        query, documents = queries(n)
        if n % 4 == 3:  # neighbours that fail
            answer = api.post("/v1/score/bert", json={"query": {"text": text(600, seed=n)}, "items": [{"text": "it"}]})
            assert answer.status_code == 400
            return []
        return scores(api, MODELS[n % 4], query, documents)

    alone = [request(n) for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(request, range(16))) == alone


# --- ids -------------------------------------------------------------------------------------------------------------


def test_ids(api: httpx2.Client) -> None:
    items = [{"id": "a", "text": "it"}, {"text": "is"}, {"id": "", "text": "w1"}, {"id": None, "text": "w2"}]
    body = api.post("/v1/score/bert", json={"query": {"text": QUERY}, "items": items}).json()
    assert body["query_id"] is None
    assert sorted(entry["item_id"] for entry in body["scores"]) == ["", "a", "item-1", "item-3"]


def test_repeated_ids_are_all_answered(api: httpx2.Client) -> None:
    items = [{"id": "same", "text": document} for document in DOCUMENTS]
    body = api.post("/v1/score/bert", json={"query": {"text": QUERY}, "items": items}).json()
    assert [entry["item_id"] for entry in body["scores"]] == ["same"] * 4
    assert [entry["score"] for entry in body["scores"]] == sorted(scores(api, "bert", QUERY, DOCUMENTS), reverse=True)


@pytest.mark.parametrize("model", MODELS)
def test_equal_scores_keep_the_order_of_the_request(api: httpx2.Client, model: str) -> None:
    items = [{"id": f"{n}", "text": DOCUMENTS[n % 2]} for n in range(40)]
    body = api.post(f"/v1/score/{model}", json={"query": {"text": QUERY}, "items": items}).json()
    order = [int(entry["item_id"]) for entry in body["scores"]]
    first = order[0] % 2
    assert order == [*range(first, 40, 2), *range(1 - first, 40, 2)]


# --- instruction, profile, options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_instruction_is_put_before_the_query(api: httpx2.Client, model: str) -> None:
    expected = scores(api, model, "who made it what is python", DOCUMENTS)
    assert expected != scores(api, model, QUERY, DOCUMENTS)
    assert scores(api, model, QUERY, DOCUMENTS, instruction="who made it") == expected
    assert scores(api, model, QUERY, DOCUMENTS, options={"instruction": "who made it"}) == expected
    both = scores(api, model, QUERY, DOCUMENTS, instruction="who made it", options={"instruction": "w9"})
    assert both == expected


@pytest.mark.parametrize("profile", [None, "default"])
def test_default_profile(api: httpx2.Client, profile: str | None) -> None:
    expected = scores(api, "bert", QUERY, DOCUMENTS)
    assert scores(api, "bert", QUERY, DOCUMENTS, options={"profile": profile}) == expected


def test_unknown_profile(api: httpx2.Client) -> None:
    answer = api.post("/v1/score/bert", json={**BODY, "options": {"profile": "fast"}})
    assert error(answer) == (400, "INVALID_INPUT", "Profile 'fast' not found. Available: ['default']")


@pytest.mark.parametrize("top_k", [1, 2, 4, 5, 10**30])
def test_top_k_keeps_the_best(api: httpx2.Client, top_k: int) -> None:
    everything = api.post("/v1/score/bert", json=BODY).json()
    body = api.post("/v1/score/bert", json={**BODY, "options": {"top_k": top_k}}).json()
    assert body["scores"] == everything["scores"][:top_k]
    assert body["usage"] == everything["usage"]


def test_tokens_and_usage(api: httpx2.Client) -> None:
    # A word is a token, and a pair has three special ones.
    query, documents = "w1 w2", ["w3", "w4 w5 w6", text(600, seed=2)]
    body = {"query": {"text": query}, "items": [{"text": t} for t in documents], "options": {"return_tokens": True}}
    answer = api.post("/v1/score/bert", json=body).json()
    entries = {entry["item_id"]: (entry["tokens"], entry["truncated"]) for entry in answer["scores"]}
    assert entries == {"item-0": (6, False), "item-1": (8, False), "item-2": (512, True)}
    assert answer["usage"] == {"input_tokens": 6 + 8 + 512}


def test_usage_of_late_interaction_counts_the_query_once(api: httpx2.Client) -> None:
    body = {"query": {"text": "python"}, "items": [{"text": "snakes"}, {"text": "it is"}]}
    answer = api.post(f"/v1/score/{EMBEDDED}", json=body).json()
    assert answer["usage"] == {"input_tokens": 3 + 3 + 4}


def test_max_seq_length_cuts_the_document(api: httpx2.Client) -> None:
    words = text(40, seed=3).split()
    whole, cut = " ".join(words), " ".join(words[:20])
    expected = scores(api, "bert", QUERY, [cut])
    assert scores(api, "bert", QUERY, [whole], options={"max_seq_length": 3 + 20 + 3}) == expected
    assert scores(api, "bert", QUERY, [whole]) != expected


def test_max_seq_length_is_clamped_to_the_model_s(api: httpx2.Client) -> None:
    long = text(700, seed=4)
    assert scores(api, "bert", QUERY, [long], options={"max_seq_length": 10**9}) == scores(api, "bert", QUERY, [long])


@pytest.mark.parametrize("model", ["bert", EMBEDDED])
def test_query_max_length_cuts_the_query(api: httpx2.Client, model: str) -> None:
    """It counts the query's own tokens, whatever the kind of model."""
    cut = scores(api, model, "what is python", DOCUMENTS, options={"query_max_length": 2})
    assert cut == scores(api, model, "what is", DOCUMENTS)
    assert cut != scores(api, model, "what is python", DOCUMENTS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("policy", ["default", "truncate_text", None])
def test_a_long_document_is_cut(api: httpx2.Client, model: str, policy: str | None) -> None:
    documents = [text(700, seed=5), text(700, seed=5) + " who made it"]
    [cut, longer] = scores(api, model, QUERY, documents, options={"overflow_policy": policy})
    assert cut == longer


@pytest.mark.parametrize("model", MODELS)
def test_overflow_policy_error_refuses_documents_that_would_be_cut(api: httpx2.Client, model: str) -> None:
    strict = {"overflow_policy": "error"}
    assert scores(api, model, QUERY, DOCUMENTS, options=strict) == scores(api, model, QUERY, DOCUMENTS)
    items = [{"text": "it"}, {"text": text(700, seed=5)}]
    answer = api.post(f"/v1/score/{model}", json={"query": {"text": QUERY}, "items": items, "options": strict})
    status, code, message = error(answer)
    assert (status, code) == (400, "INPUT_TOO_LONG")
    assert "items[1].text" in message


@pytest.mark.parametrize("model", MODELS)
def test_long_documents_wins_over_overflow_policy(api: httpx2.Client, model: str) -> None:
    document = [text(700, seed=5)]
    refused = {"query": {"text": QUERY}, "items": [{"text": document[0]}]}
    for policy in (None, "default", "error"):
        options = {"overflow_policy": policy, "long_documents": "error"}
        status, code, message = error(api.post(f"/v1/score/{model}", json={**refused, "options": options}))
        assert (status, code) == (400, "INPUT_TOO_LONG")
        assert "items[0].text" in message
    cut = scores(api, model, QUERY, document)
    for option in ({"long_documents": "truncate", "overflow_policy": "error"}, {"long_documents": None}):
        assert scores(api, model, QUERY, document, options=option) == cut


# Nineteen words, each one token for every tokenizer here. Eight fit: windows start at 0, 6, 12, and at 11 for the end.
LONG = "python is a language " * 2 + "snakes are what " * 2 + "who made it is a"
WINDOWS = [(0, 8), (6, 14), (11, 19)]


def word_span(words: str, first: int, end: int) -> list[int]:
    """Code points of words `first` to `end`, which single spaces separate."""
    start = sum(len(word) + 1 for word in words.split(" ")[:first])
    return [start, start + len(" ".join(words.split(" ")[first:end]))]


@pytest.mark.parametrize("sent", [JSON, MSGPACK])
@pytest.mark.parametrize(("model", "special"), [("bert", 3 + 3), ("xlm-roberta", 4 + 3), (EMBEDDED, 2)])
def test_a_document_scores_as_the_best_of_its_windows(api: httpx2.Client, model: str, special: int, sent: str) -> None:
    """`special`: tokens in a sequence that are not the document's; a late-interaction model has the query elsewhere."""
    short = "🐍 é"
    parts = [" ".join(LONG.split()[slice(*window)]) for window in WINDOWS]
    alone = scores(api, model, QUERY, parts)
    options = {"long_documents": "chunk_max", "max_seq_length": 8 + special, "return_tokens": True}
    body = {"query": {"text": QUERY}, "items": [{"text": LONG}, {"text": short}], "options": options}
    packed = msgpack.packb(body) if sent == MSGPACK else httpx2.Request("POST", "/", json=body).content
    answer = api.post(f"/v1/score/{model}", content=packed, headers={"Content-Type": sent, "Accept": sent})
    assert answer.status_code == 200, answer.text
    result = msgpack.unpackb(answer.content) if sent == MSGPACK else answer.json()
    entries = {entry.pop("item_id"): entry for entry in result["scores"]}
    tokens = 3 * (8 + special)
    best = alone.index(max(alone))
    assert entries["item-0"] == {
        "score": max(alone),
        "rank": entries["item-0"]["rank"],
        "tokens": tokens,
        "truncated": False,
        "span": word_span(LONG, *WINDOWS[best]),
    }
    assert entries["item-1"]["span"] == [0, len(short)]
    assert entries["item-1"]["score"] == scores(api, model, QUERY, [short])[0]
    lead = 2 + 3 if model == EMBEDDED else 0
    assert result["usage"] == {"input_tokens": tokens + entries["item-1"]["tokens"] + lead}


@pytest.mark.parametrize("model", MODELS)
def test_of_equal_windows_the_first_is_named(api: httpx2.Client, model: str) -> None:
    options = {"long_documents": "chunk_max", "max_seq_length": 30}
    body = {"query": {"text": QUERY}, "items": [{"text": "snakes " * 100}], "options": options}
    [entry] = api.post(f"/v1/score/{model}", json=body).json()["scores"]
    assert entry["span"][0] == 0


def test_the_span_is_where_the_answer_is(api: httpx2.Client) -> None:
    before = "The weather in the mountains was cold – 🌨 – and we stayed at home. " * 12
    answer = "Python is a programming language."
    document = before + answer + " My sister bakes bread on Sundays, and the café is closed." * 12
    body = {"query": {"text": "What is Python?"}, "items": [{"text": document}, {"text": before}]}
    options = {"long_documents": "chunk_max", "max_seq_length": 64}
    [first, second] = api.post(f"/v1/score/{EMBEDDED}", json={**body, "options": options}).json()["scores"]
    assert (first["item_id"], second["item_id"]) == ("item-0", "item-1")
    start, end = first["span"]
    assert answer in document[start:end]
    assert end - start < len(document) / 3
    cut = api.post(f"/v1/score/{EMBEDDED}", json={**body, "options": {"max_seq_length": 64}}).json()["scores"]
    assert cut[0]["score"] == cut[1]["score"] < first["score"]


def test_windows_need_a_quarter_of_the_limit(api: httpx2.Client) -> None:
    # The limit is 40, the room 40 - 3 - 27 = 10.
    options = {"long_documents": "chunk_max", "max_seq_length": 40}
    assert scores(api, "bert", text(27, seed=1), ["it"], options=options)
    body = {"query": {"text": text(28, seed=1)}, "items": [{"text": "it"}]}
    status, code, message = error(api.post("/v1/score/bert", json={**body, "options": options}))
    assert (status, code) == (400, "INPUT_TOO_LONG")
    assert message.startswith("Field 'query' has 28 tokens and leaves room for 9 ")
    assert api.post("/v1/score/bert", json={**body, "options": {"max_seq_length": 40}}).status_code == 200


@pytest.mark.parametrize("query", ["", "it"])
@pytest.mark.parametrize("model", MODELS)
def test_windows_without_room(api: httpx2.Client, model: str, query: str) -> None:
    options = {"long_documents": "chunk_max", "max_seq_length": 2}
    body = {"query": {"text": query}, "items": [{"text": LONG}], "options": options}
    status, code, message = error(api.post(f"/v1/score/{model}", json=body))
    assert (status, code) == (400, "INPUT_TOO_LONG")
    assert "Field 'query'" in message


@pytest.mark.parametrize(("model", "tokens", "limit"), [("bert", 600, 512), (EMBEDDED, 300, 256)])
def test_a_query_is_kept_whole_or_refused(api: httpx2.Client, model: str, tokens: int, limit: int) -> None:
    body = {"query": {"text": "made " * tokens}, "items": [{"text": "it"}]}
    status, code, message = error(api.post(f"/v1/score/{model}", json=body))
    assert (status, code) == (400, "INPUT_TOO_LONG")
    assert f"Field 'query' has {tokens} tokens" in message
    assert str(limit) in message


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"top_k": 0}, "Expected `int` >= 1 - at `$.options.top_k`"),
        ({"top_k": "3"}, "Expected `int | null`, got `str` - at `$.options.top_k`"),
        ({"top_k": 1.5}, "Expected `int | null`, got `float` - at `$.options.top_k`"),
        ({"top_k": True}, "Expected `int | null`, got `bool` - at `$.options.top_k`"),
        ({"max_seq_length": 0}, "Expected `int` >= 1 - at `$.options.max_seq_length`"),
        ({"query_max_length": -1}, "Expected `int` >= 1 - at `$.options.query_max_length`"),
        ({"profile": 1}, "Expected `str | null`, got `int` - at `$.options.profile`"),
        ({"instruction": []}, "Expected `str | null`, got `array` - at `$.options.instruction`"),
        ({"return_tokens": 1}, "Expected `bool`, got `int` - at `$.options.return_tokens`"),
        ({"overflow_policy": "cut"}, "Invalid enum value 'cut' - at `$.options.overflow_policy`"),
        ({"long_documents": "split"}, "Invalid enum value 'split' - at `$.options.long_documents`"),
        ({"long_documents": 1}, "Expected `str | null`, got `int` - at `$.options.long_documents`"),
        ({"overflow_policy": 1}, "Expected `str | null`, got `int` - at `$.options.overflow_policy`"),
        ([], "Expected `object | null`, got `array` - at `$.options`"),
    ],
)
def test_options_of_the_wrong_type(api: httpx2.Client, option: Any, message: str) -> None:
    answer = api.post("/v1/score/bert", json={**BODY, "options": option})
    assert error(answer) == (400, "INVALID_INPUT", message)


def test_unknown_fields_are_ignored_at_every_level(api: httpx2.Client) -> None:
    item = {"text": QUERY, "lang": "en", "images": [{"data": "aGk="}], "metadata": {"a": [{"b": None}]}}
    body = {
        "query": item,
        "items": [{"text": document, "x": {"y": [1, 2.5, None, "z"]}} for document in DOCUMENTS],
        "model": "another",
        "options": {"score_mode": "dense", "no_such_option": {"deep": [[]]}},
    }
    answer = api.post("/v1/score/bert", json=body)
    assert answer.json()["scores"] == api.post("/v1/score/bert", json=BODY).json()["scores"]
    assert answer.headers["X-SIE-Ignored"] == "options.no_such_option (did you mean instruction?),options.score_mode"


# --- comparison of embeddings ----------------------------------------------------------------------------------------


def test_late_interaction_compares_one_vector_each_if_asked(api: httpx2.Client) -> None:
    dense = scores(api, EMBEDDED, QUERY, DOCUMENTS, options={"score_mode": "dense"})
    items = [{"text": each} for each in (QUERY, *DOCUMENTS)]
    encoded = api.post(f"/v1/encode/{EMBEDDED}", json={"items": items}).json()["items"]
    query, *documents = (np.array(item["dense"]["values"]) for item in encoded)
    np.testing.assert_allclose(dense, [query @ document for document in documents], rtol=0, atol=1e-6)
    own = scores(api, EMBEDDED, QUERY, DOCUMENTS)
    assert scores(api, EMBEDDED, QUERY, DOCUMENTS, options={"score_mode": "colbert"}) == own != dense


@pytest.mark.parametrize("mode", ["sparse", "hybrid"])
def test_a_comparison_that_a_model_lacks_is_refused_with_those_it_has(api: httpx2.Client, mode: str) -> None:
    answer = api.post(f"/v1/score/{EMBEDDED}", json={**BODY, "options": {"score_mode": mode}})
    message = (
        f"Model '{EMBEDDED}' can't score by '{mode}', because it has no sparse embeddings; "
        "it can score by colbert, dense"
    )
    assert error(answer) == (400, "INVALID_INPUT", message)


# --- validation ------------------------------------------------------------------------------------------------------

QUERIED = {"query": {"text": "a"}}
INVALID: list[tuple[object, str]] = [
    ({**QUERIED, "items": ["x"]}, "Expected `object`, got `str` - at `$.items[0]`"),
    ({**QUERIED, "items": [{"text": "a"}, 7]}, "Expected `object`, got `int` - at `$.items[1]`"),
    ({**QUERIED, "items": [{"text": 1}]}, "Expected `str | null`, got `int` - at `$.items[0].text`"),
    ({**QUERIED, "items": [{"id": 7}]}, "Expected `str | null`, got `int` - at `$.items[0].id`"),
    ({**QUERIED, "items": [{"metadata": []}]}, "Expected `object | null`, got `array` - at `$.items[0].metadata`"),
    ({"query": {"text": 1}, "items": [{"text": "a"}]}, "Expected `str | null`, got `int` - at `$.query.text`"),
    ({"query": "a", "items": [{"text": "a"}]}, "Expected `object`, got `str` - at `$.query`"),
    ({"items": [{"text": "a"}]}, "Object missing required field `query`"),
    (QUERIED, "Object missing required field `items`"),
    ({**QUERIED, "items": {}}, "Expected `array`, got `object` - at `$.items`"),
    ({**QUERIED, "items": []}, "Field 'items' must not be empty"),
    ({**QUERIED, "items": [{"text": "a"}] * 10_001}, "Field 'items' must contain at most 10000 candidates"),
    ({**BODY, "instruction": 1}, "Expected `str | null`, got `int` - at `$.instruction`"),
    ({**QUERIED, "items": [{"text": "a"}, {"id": "x"}]}, "CrossEncoder adapter requires text input"),
    ({"query": {"id": "q"}, "items": [{"text": "a"}]}, "CrossEncoder adapter requires text input"),
]


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
@pytest.mark.parametrize(("body", "message"), INVALID)
def test_invalid_bodies(api: httpx2.Client, body: object, message: str, encoding: str) -> None:
    packed = httpx2.Request("POST", "/", json=body).content if encoding == JSON else msgpack.packb(body)
    headers = {"Content-Type": encoding, "Accept": encoding}
    answer = api.post("/v1/score/bert", content=packed, headers=headers)
    assert error(answer) == (400, "INVALID_INPUT", message)


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        (JSON, b'{"a":nope}', "JSON is malformed: invalid character (byte 6)"),
        (JSON, b"nope", "JSON is malformed: invalid character (byte 4)"),
        (MSGPACK, b"\xc1", "MessagePack data is malformed: invalid opcode '\\xc1' (byte 0)"),
    ],
)
def test_malformed_bodies(api: httpx2.Client, encoding: str, body: bytes, message: str) -> None:
    answer = api.post("/v1/score/bert", content=body, headers={"Content-Type": encoding, "Accept": MSGPACK})
    assert error(answer) == (400, "INVALID_INPUT", message)


@pytest.mark.parametrize(
    ("item", "fits"),
    [
        ({"text": "a" * 2 * MIB}, True),
        ({"text": "a" * (2 * MIB + 1)}, False),
        ({"text": "é" * (MIB + 1)}, False),
        ({"text": "é" * MIB}, True),
        ({"text": "a", "metadata": {"note": "b" * 2 * MIB}}, False),
        ({"text": "a", "metadata": {"note": "b" * MIB}}, True),
        ({"text": "a" * MIB, "metadata": {"note": "b" * MIB}}, False),
    ],
)
def test_size_of_one_item(api: httpx2.Client, item: dict[str, Any], fits: bool) -> None:
    answer = api.post("/v1/score/bert", json={"query": {"text": "a"}, "items": [{"text": "a"}, item]})
    if fits:
        assert answer.status_code == 200
    else:
        message = "Field 'items[1]' must hold at most 2097152 bytes of UTF-8 text"
        assert error(answer) == (400, "INVALID_INPUT", message)


def test_size_of_the_query(api: httpx2.Client) -> None:
    answer = api.post("/v1/score/bert", json={"query": {"text": "a" * (2 * MIB + 1)}, "items": [{"text": "a"}]})
    message = "Field 'query' must hold at most 2097152 bytes of UTF-8 text"
    assert error(answer) == (400, "INVALID_INPUT", message)


def test_limits_are_settings(models: Path) -> None:
    limits = {"max_items": 2, "max_item_text_bytes": 8, "max_request_body_bytes": 200}
    with in_process(model=(str(models / "bert"),), **limits) as running, connect(running.url) as api:
        assert len(scores(api, "bert", "w1", ["w2", "w3"])) == 2
        for items, expected in (
            ([{"text": "w1"}] * 3, (400, "INVALID_INPUT", "Field 'items' must contain at most 2 candidates")),
            (
                [{"text": "w1 w2 w3 w4"}],
                (400, "INVALID_INPUT", "Field 'items[0]' must hold at most 8 bytes of UTF-8 text"),
            ),
            (
                [{"text": "w1", "id": "an id of 9"}],
                (400, "INVALID_INPUT", "Field 'items[0]' must hold at most 8 bytes of UTF-8 text"),
            ),
            ([{"text": "w" * 200}], (413, "INPUT_TOO_LONG", "request body exceeds the limit of 200 bytes")),
        ):
            assert error(api.post("/v1/score/bert", json={"query": {"text": "w1"}, "items": items})) == expected


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("brt", "Model 'brt' not found Did you mean 'bert'?"),
        (
            "bert:sparse",
            "Model 'bert:sparse' not found Did you mean 'BAAI/bge-m3:sparse'? "
            "Profiles of 'bert': default; outputs: score",
        ),
        ("xyzzy", "Model 'xyzzy' not found"),
    ],
)
def test_unknown_model(api: httpx2.Client, model: str, message: str) -> None:
    assert error(api.post(f"/v1/score/{model}", json=BODY)) == (404, "MODEL_NOT_FOUND", message)


@pytest.mark.parametrize("path", [EMBEDDED, EMBEDDED.replace("/", "%2F"), EMBEDDED.replace("/", "%2f") + ":default"])
def test_model_ids_in_the_path(api: httpx2.Client, path: str) -> None:
    answer = api.post(f"/v1/score/{path}", json=BODY)
    assert answer.status_code == 200
    assert answer.json()["model"] == EMBEDDED


def test_a_model_that_does_not_score(api: httpx2.Client) -> None:
    message = (
        "Model 'bert-encoder' does not support scoring. "
        "Use an encoder model with /v1/encode instead, or use a reranker model."
    )
    assert error(api.post("/v1/score/bert-encoder", json=BODY)) == (400, "INVALID_INPUT", message)


def test_order_of_checks(api: httpx2.Client) -> None:
    relayed = {"X-SIE-Remote": "allow"}
    assert "X-SIE-Remote" in error(api.post("/v1/score/unknown", content=b"nope", headers=relayed))[2]
    assert error(api.post("/v1/score/unknown", content=b"nope"))[1] == "INVALID_INPUT"
    assert error(api.post("/v1/score/unknown", json={**BODY, "options": {"profile": "x"}}))[1] == "MODEL_NOT_FOUND"


# --- negotiation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        (None, MSGPACK),
        ("", MSGPACK),
        ("*/*", MSGPACK),
        ("text/html", MSGPACK),
        ("application/msgpack", MSGPACK),
        ("application/x-msgpack", MSGPACK),
        ("Application/X-MsgPack", MSGPACK),
        ("application/json, application/msgpack;q=0.1", MSGPACK),
        ("application/json", JSON),
        ("APPLICATION/JSON", JSON),
        ("application/json; charset=utf-8", JSON),
        ("application/json;q=0, */*", JSON),
        ("text/html, application/json;q=0.5", JSON),
    ],
)
@pytest.mark.parametrize("sent", [JSON, MSGPACK])
def test_accept(server: Server, accept: str | None, encoding: str, sent: str) -> None:
    headers = {"Content-Type": sent} | ({} if accept is None else {"Accept": accept})
    body = msgpack.packb(BODY) if sent == MSGPACK else httpx2.Request("POST", "/", json=BODY).content
    status, content_type, answer = raw_post(server, body, headers)
    assert (status, content_type) == (200, encoding)
    decoded = msgpack.unpackb(answer) if encoding == MSGPACK else httpx2.Response(200, content=answer).json()
    _, _, reference = raw_post(server, body, {**headers, "Accept": JSON})
    # A float64 comes out of either encoding with the same bits.
    assert decoded == httpx2.Response(200, content=reference).json()

    status, content_type, _ = raw_post(server, b"\xc1", headers)
    assert (status, content_type) == (400, JSON)


@pytest.mark.parametrize(
    ("content_type", "packed"),
    [
        (None, False),
        ("application/json", False),
        ("application/x-www-form-urlencoded", False),
        ("text/plain; charset=utf-8", False),
        ("msgpack", False),
        ("application/msgpack", True),
        ("application/x-msgpack", True),
        ("APPLICATION/MSGPACK; charset=binary", True),
    ],
)
def test_content_type(server: Server, content_type: str | None, packed: bool) -> None:
    headers = {"Accept": JSON} | ({} if content_type is None else {"Content-Type": content_type})
    as_json, as_msgpack = httpx2.Request("POST", "/", json=BODY).content, msgpack.packb(BODY)
    right, wrong = (as_msgpack, as_json) if packed else (as_json, as_msgpack)
    assert raw_post(server, right, headers)[0] == 200
    assert raw_post(server, wrong, headers)[0] == 400


@pytest.mark.parametrize("filler", ["", "x" * 300_000])
def test_options_that_nothing_reads_are_named(api: httpx2.Client, filler: str) -> None:
    body = {**BODY, "items": [*BODY["items"], {"text": f"it {filler}"}]}
    answer = api.post(f"/v1/score/{EMBEDDED}", json={**body, "options": {"topk": 1, "top_k": 2, "é,\n": 0}})
    assert (answer.status_code, answer.headers["x-sie-ignored"]) == (
        200,
        "options.topk (did you mean top_k?),options.???",
    )
    packed = msgpack.packb({**body, "options": {"topk": 1}})
    headers = {"Content-Type": "application/msgpack"}
    answer = api.post(f"/v1/score/{EMBEDDED}", content=packed, headers=headers)
    assert answer.headers["x-sie-ignored"] == "options.topk (did you mean top_k?)"
    params = {"output_type": ["dense"], "options": {"normalise": False}}
    answer = api.post(f"/v1/encode/{EMBEDDED}", json={"items": body["items"], "params": params})
    assert answer.headers["x-sie-ignored"] == (
        "params.output_type (did you mean output_types?),params.options.normalise (did you mean normalize?)"
    )
    answer = api.post(f"/v1/score/{EMBEDDED}", json={**body, "options": {"top_k": 2}, "unknown": 1})
    assert "x-sie-ignored" not in answer.headers
