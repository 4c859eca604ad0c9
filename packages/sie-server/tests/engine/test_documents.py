"""Equal documents of a request are computed once, and answered as if each had been computed."""

from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sie_server.catalog.catalog import Entry, shipped
from sie_server.engine.calls import ScoreCall
from sie_server.engine.documents import Documents
from sie_server.engine.highlights import Highlight
from sie_server.errors import SIEError
from sie_server.options import Comparison, LongDocuments
from sie_server.tokenization.config import LengthLimits
from sie_testing.checkpoints import build, text
from sie_testing.engine_loop import Running, running
from sie_testing.serving import EMBEDDED

MODELS = ["bert", "qwen3", EMBEDDED]
LIMITS = {"max_windows": 24, "max_request_tokens": 2000}


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Entry]:
    folder = tmp_path_factory.mktemp("models")
    entries = {EMBEDDED: shipped()[EMBEDDED]}
    for name in ("bert", "qwen3"):
        build(folder / name, name)
        entries[name] = Entry(name, folder=folder / name)
    return entries


@pytest.fixture(scope="module")
def engine(entries: Mapping[str, Entry]) -> Iterator[Running]:
    with running(entries, precision="float32", **LIMITS) as engine:
        yield engine


def answer(engine: Running, model: str, texts: list[str], **options: Any) -> dict[str, Any]:
    """What a client is told about the documents: the ranking, or the error."""
    call = ScoreCall(model, "what is w9", texts, **options)
    try:
        ranking = engine.run(engine.engine.score(call))
    except SIEError as error:
        return {"code": error.code, "message": error.message, **error.extras}
    fields = ("order", "scores", "lengths", "truncated", "spans", "tokens", "highlights")
    return {name: list(value) if name == "order" else value for name in fields for value in [getattr(ranking, name)]}


def each_computed(engine: Running, model: str, texts: list[str], **options: Any) -> dict[str, Any]:
    """The same of an engine that computes every document, equal to another or not."""
    with patch.object(Documents, "of", Documents.separate):
        return answer(engine, model, texts, **options)


def computed(engine: Running, model: str) -> float:
    value = engine.engine._metrics.registry.get_sample_value("sie_tokens_processed_total", {"model": model})
    return value or 0.0


@given(st.lists(st.sampled_from("abcde"), min_size=1))
def test_each_text_is_there_once_and_in_every_place(texts: list[str]) -> None:
    documents = Documents.of(texts)
    assert list(documents.distinct) == list(dict.fromkeys(texts))
    assert documents.each(list(documents.distinct)) == texts
    assert documents.repeated == len(texts) - len(set(texts))


@pytest.mark.parametrize("long_documents", ["truncate", "chunk_max"])
@pytest.mark.parametrize("model", MODELS)
def test_the_answer_is_that_of_documents_computed_one_by_one(
    engine: Running, model: str, long_documents: LongDocuments
) -> None:
    texts = [text(length, 1) for length in (3, 40, 3, 9, 40, 40, 7, 3)]
    options: dict[str, Any] = {"limits": LengthLimits(64 if model == "bert" else None), "top_k": 6}
    if model == EMBEDDED:
        options |= {"limits": LengthLimits(32), "comparison": Comparison("colbert")}
    options["long_documents"] = long_documents
    before = computed(engine, model)
    got = answer(engine, model, texts, **options)
    between = computed(engine, model)
    assert got == each_computed(engine, model, texts, **options)
    assert "code" not in got
    # Four of the eight are new.
    assert between - before < 0.75 * (computed(engine, model) - between)


def test_highlights_of_equal_documents_are_those_of_each(engine: Running) -> None:
    texts = ["Python is a language.", "Snakes.", "Python is a language.", "", "Snakes."]

    def encode(highlights: list[Highlight]) -> list[Highlight]:
        return highlights

    got = answer(engine, EMBEDDED, texts, encode_highlights=encode)
    assert len(got["highlights"]) == 5
    assert got == each_computed(engine, EMBEDDED, texts, encode_highlights=encode)


def test_equal_documents_keep_their_order(engine: Running) -> None:
    got = answer(engine, "bert", [text(5, 1), text(9, 2)] * 20)
    best = got["order"][0]
    assert got["order"] == [*range(best, 40, 2), *range(1 - best, 40, 2)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("lengths", "options", "said"),
    [
        # The first of the long ones is number 5; it is the third text.
        ([3, 3, 4, 3, 4, 600, 600, 4], {"long_documents": "error"}, "items[5].text"),
        # More tokens, or windows, than the limit only because the same texts occur again.
        ([60] * 60, {}, "--max-request-tokens"),
        ([110] * 12 + [5], {"long_documents": "chunk_max"}, "--max-windows"),
    ],
)
def test_what_is_refused_is_refused_in_the_same_words(
    engine: Running, model: str, lengths: list[int], options: dict[str, Any], said: str
) -> None:
    options = {"limits": LengthLimits(40 if model == EMBEDDED else 64), **options}
    if model == "qwen3":  # whose prompt is longer
        options["limits"] = LengthLimits(160)
        lengths = [3 * length for length in lengths]
    texts = [text(length, 1) for length in lengths]
    got = answer(engine, model, texts, **options)
    assert said in got["message"]
    assert got == each_computed(engine, model, texts, **options)


def test_a_limit_that_only_the_repetitions_reach_admits_them(entries: Mapping[str, Entry]) -> None:
    texts = [text(10, 1)] * 10
    with running(entries, max_windows=10, max_request_tokens=10_000) as engine:
        assert len(answer(engine, "bert", texts)["scores"]) == 10
        tokens = answer(engine, "bert", texts)["tokens"]
    with running(entries, max_request_tokens=tokens) as engine:
        assert answer(engine, "bert", texts)["tokens"] == tokens
    with running(entries, max_request_tokens=tokens - 1) as engine:
        assert f"'items' has {tokens} tokens" in answer(engine, "bert", texts)["message"]


def test_repeated_documents_are_counted(engine: Running) -> None:
    registry = engine.engine._metrics.registry

    def repeated() -> float:
        return registry.get_sample_value("sie_repeated_documents_total", {"model": "bert"}) or 0.0

    before = repeated()
    answer(engine, "bert", ["a", "b", "a", "a"])
    assert repeated() == before + 2
