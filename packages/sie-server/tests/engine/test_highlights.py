"""Token highlights: each word of the query beside the word of the document that its vector is nearest to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch

from sie_sdk import SIEClient
from sie_server.catalog.catalog import Entry, shipped
from sie_server.checkpoints.load import load
from sie_server.nn.packed import Packed
from sie_server.tokenization.word_cache import encodings
from sie_testing.checkpoints import text
from sie_testing.late_interaction_checkpoints import pylate, stanford
from sie_testing.serving import EMBEDDED, connect, error, in_process

CPU = torch.device("cpu")
QUERY = "who made the python language?"
DOCUMENTS = [
    "Guido van Rossum created Python, a programming language.",
    "The python is a snake — 🐍 — and reptiles are cold-blooded; naïve cafés serve none.",
    "",
    "Berlin.",
]


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("late")


@pytest.fixture(scope="module")
def api(late: Path, models: Path) -> Iterator[httpx2.Client]:
    layouts = (f"pylate={pylate(late / 'pylate')}", f"stanford={stanford(late / 'stanford')}")
    folders = (*layouts, f"bert={models / 'bert'}")
    with in_process(model=folders, precision="float32") as server, connect(server.url) as client:
        yield client


def score(api: httpx2.Client, model: str, query: str, texts: list[str], **options: Any) -> list[dict[str, Any]]:
    items = [{"id": str(index), "text": one} for index, one in enumerate(texts)]
    answer = api.post(f"/v1/score/{model}", json={"query": {"text": query}, "items": items, "options": options})
    entries: list[dict[str, Any]] = answer.json()["scores"]
    return entries


def words(one: str, span: list[int] | None) -> str | None:
    return None if span is None else one[slice(*span)]


def test_words_of_the_real_model_match_themselves(api: httpx2.Client) -> None:
    [best, *_] = score(api, EMBEDDED, QUERY, DOCUMENTS, return_highlights=True)
    assert best["item_id"] == "0"
    matches = {words(QUERY, light["query"]): words(DOCUMENTS[0], light["document"]) for light in best["highlights"]}
    assert list(matches) == ["who", "made", "the", "python", "language", "?"]
    assert matches["python"] == "Python"
    assert matches["language"] == "language"
    assert matches["made"] == "created"


@pytest.mark.parametrize("model", [EMBEDDED, "stanford", "pylate"])
def test_highlights_are_the_largest_cosines_and_leave_the_scores_alone(
    api: httpx2.Client, late: Path, model: str
) -> None:
    """Against the vectors that the model itself gives; special tokens, markers and expansion have none."""
    query, texts = "what is w9 ?", [text(9, 1), "w9 ( is ) .", "w1 .", ""]
    if model == EMBEDDED:
        query, texts = QUERY, DOCUMENTS
    plain = score(api, model, query, texts)
    entries = score(api, model, query, texts, return_highlights=True)
    assert plain == [{key: entry[key] for key in ("item_id", "score", "rank")} for entry in entries]
    entry = shipped()[EMBEDDED] if model == EMBEDDED else Entry("m", folder=late / model)
    loaded = load(entry, CPU, "float32")
    [lead], sequences = loaded.tokenizer.encode_queries([query]), loaded.tokenizer.encode_documents(texts)
    head = loaded.embedders(["multivector"])["multivector"]
    with torch.inference_mode():
        [asked] = head(*loaded.encoder(Packed.of([lead], CPU)), [lead])
        vectors = head(*loaded.encoder(Packed.of(sequences, CPU)), sequences)
    read = encodings(loaded.tokenizer._tokenizer, [query, *texts], offsets=True)
    spans, *theirs = [encoding.offsets for encoding in read]
    front = len(lead) - lead.unattended - 1 - len(spans)
    for found in entries:
        document = int(found["item_id"])
        assert [tuple(light["query"]) for light in found["highlights"]] == spans
        kept = sequences[document].keep
        rows = range(len(sequences[document])) if kept is None else np.flatnonzero(kept).tolist()
        for place, light in enumerate(found["highlights"]):
            cosines = vectors[document] @ asked[front + place]
            assert light["score"] == pytest.approx(cosines.max(), abs=1e-5)
            token = rows[int(cosines.argmax())] - (1 if model == EMBEDDED else 2)
            expected = theirs[document][token] if 0 <= token < len(theirs[document]) else None
            assert light["document"] == (None if expected is None else list(expected))


def test_spans_count_code_points(api: httpx2.Client) -> None:
    """With characters of two and of four bytes in front of the word."""
    query, one = "🐍 cafés", DOCUMENTS[1]
    [entry] = score(api, EMBEDDED, query, [one], return_highlights=True)
    pairs = [(words(query, light["query"]), words(one, light["document"])) for light in entry["highlights"]]
    assert pairs == [("🐍", "🐍"), ("cafés", "cafés")]


def test_an_instruction_is_not_highlighted(api: httpx2.Client) -> None:
    body = {"query": {"text": QUERY}, "items": [{"text": DOCUMENTS[0]}], "instruction": "Prefer the language."}
    answer = api.post(f"/v1/score/{EMBEDDED}", json={**body, "options": {"return_highlights": True}}).json()
    lights = answer["scores"][0]["highlights"]
    assert [words(QUERY, light["query"]) for light in lights] == ["who", "made", "the", "python", "language", "?"]


def test_only_what_is_returned_is_traced_and_windows_keep_their_place(api: httpx2.Client) -> None:
    long = " ".join(f"filler{i}" for i in range(400)) + " Guido made Python " + " ".join(["etc"] * 300)
    options = {"return_highlights": True, "long_documents": "chunk_max", "top_k": 1}
    [entry] = score(api, EMBEDDED, "python", ["nothing", long], **options)
    assert entry["item_id"] == "1"
    [light] = entry["highlights"]
    assert words(long, light["document"]) == "Python"
    assert entry["span"][0] <= light["document"][0] < entry["span"][1]


def test_models_without_token_vectors_say_so(api: httpx2.Client) -> None:
    options = {"return_highlights": True}
    body = {"query": {"text": "a"}, "items": [{"text": "b"}], "options": options}
    message = "Field 'options.return_highlights' needs a score from token vectors; 'bert' has another kind of score"
    assert error(api.post("/v1/score/bert", json=body)) == (400, "INVALID_INPUT", message)


def test_through_the_sdk(api: httpx2.Client) -> None:
    with SIEClient(str(api.base_url)) as client:
        result = client.score(EMBEDDED, {"text": QUERY}, [{"text": DOCUMENTS[0]}], options={"return_highlights": True})
    [light, *_] = result["scores"][0]["highlights"]
    assert words(QUERY, light["query"]) == "who"
