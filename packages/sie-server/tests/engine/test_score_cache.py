"""The score cache: the same answers as without it, to the bit, and never those of something else."""

import asyncio
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from sie_server.catalog.catalog import Entry, shipped
from sie_server.checkpoints.load import load
from sie_server.engine.calls import ScoreCall
from sie_server.engine.engine import Engine
from sie_server.engine.highlights import Highlight
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.engine.score_store import BYTES_PER_ENTRY, WAYS
from sie_server.errors import Code, SIEError
from sie_server.metrics import Metrics
from sie_server.options import Comparison
from sie_server.settings import Settings
from sie_server.tokenization.config import LengthLimits
from sie_testing.checkpoints import build, text
from sie_testing.engine_loop import Running, running
from sie_testing.serving import EMBEDDED, connect, in_process

QUERY = "what is w9"
TEXTS = [text(length, 1) for length in (3, 40, 3, 9, 200, 7)]
MODELS = ["bert", "qwen3", EMBEDDED]
SIZE = 10**6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("bert", "qwen3"):
        build(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def entries(folder: Path) -> Mapping[str, Entry]:
    return {EMBEDDED: shipped()[EMBEDDED], **{name: Entry(name, folder=folder / name) for name in ("bert", "qwen3")}}


@pytest.fixture(scope="module")
def plain(entries: Mapping[str, Entry]) -> Iterator[Running]:
    with running(entries) as engine:
        yield engine


@pytest.fixture
def caching(entries: Mapping[str, Entry]) -> Iterator[Running]:
    with running(entries, score_cache=SIZE) as engine:
        yield engine


def answer(
    handle: Running, model: str = "bert", texts: Sequence[str] = TEXTS, query: str = QUERY, **options: Any
) -> dict[str, Any]:
    """What a client is told: the ranking, or the error."""
    try:
        ranking = handle.run(handle.engine.score(ScoreCall(model, query, texts, **options)))
    except SIEError as error:
        return {"code": error.code, "message": error.message, **error.extras}
    fields = ("order", "scores", "lengths", "truncated", "spans", "tokens", "highlights")
    return {name: list(value) if name == "order" else value for name in fields for value in [getattr(ranking, name)]}


def sample(handle: Running, name: str, **labels: str) -> float:
    return handle.engine._metrics.registry.get_sample_value(name, labels) or 0.0


def hits(handle: Running, model: str = "bert") -> float:
    return sample(handle, "sie_score_cache_texts_total", model=model, result="hit")


def tokens(handle: Running, model: str = "bert") -> float:
    return sample(handle, "sie_tokens_processed_total", model=model)


@pytest.mark.parametrize("long_documents", ["truncate", "chunk_max"])
@pytest.mark.parametrize("model", MODELS)
def test_an_answer_from_the_cache_is_that_of_a_computation(
    plain: Running, caching: Running, model: str, long_documents: Any
) -> None:
    options: dict[str, Any] = {"limits": LengthLimits(160 if model == "qwen3" else 48), "top_k": 5}
    options["long_documents"] = long_documents
    expected = answer(plain, model, **options)
    assert "code" not in expected
    assert answer(caching, model, TEXTS[2:], **options) == answer(plain, model, TEXTS[2:], **options)
    assert answer(caching, model, **options) == expected  # a part of it known
    before = tokens(caching, model)
    assert answer(caching, model, **options) == expected  # all of it
    assert answer(caching, model, TEXTS[::-1], **options) == answer(plain, model, TEXTS[::-1], **options)
    assert tokens(caching, model) == before
    assert hits(caching, model) == 4 + 5 + 5  # one of the six texts is there twice


requests = st.lists(
    st.tuples(st.sampled_from(["a", QUERY]), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=8)),
    min_size=1,
    max_size=8,
)


def test_requests_at_the_same_time_get_the_scores_of_a_computation(
    plain: Running, entries: Mapping[str, Entry]
) -> None:
    alone = {
        (query, one): answer(plain, texts=[one], query=query)["scores"][0] for query in ("a", QUERY) for one in TEXTS
    }

    async def together(handle: Running, drawn: list[tuple[str, list[str]]]) -> list[list[float]]:
        calls = [handle.engine.score(ScoreCall("bert", query, some)) for query, some in drawn]
        return [ranking.scores for ranking in await asyncio.gather(*calls)]

    # So small that it drops some of the scores all the time.
    with running(entries, score_cache=WAYS * BYTES_PER_ENTRY) as handle:

        @settings(max_examples=25, suppress_health_check=list(HealthCheck))
        @given(requests)
        def check(drawn: list[tuple[str, list[str]]]) -> None:
            for (query, some), scores in zip(drawn, handle.run(together(handle, drawn)), strict=True):
                assert scores == [alone[query, one] for one in some]

        check()
        assert hits(handle) > 0
        assert sample(handle, "sie_score_cache_evictions_total") > 0


@pytest.mark.parametrize(
    "other",
    [
        {"query": "what is w8"},
        {"instruction": "what is"},
        {"instruction": ""},
        {"limits": LengthLimits(16)},
        {"limits": LengthLimits(None, 2)},
        {"long_documents": "chunk_max"},
        {"model": EMBEDDED, "comparison": Comparison("colbert")},
        {"model": "qwen3"},
    ],
)
def test_what_changes_a_score_is_another_entry(plain: Running, caching: Running, other: dict[str, Any]) -> None:
    answer(caching)
    answer(caching, EMBEDDED)
    model = other.get("model", "bert")
    before = hits(caching, model)
    assert answer(caching, **other) == answer(plain, **other)
    assert hits(caching, model) == before


def test_highlights_are_computed(plain: Running, caching: Running) -> None:
    def encode(highlights: list[Highlight]) -> list[Highlight]:
        return highlights

    answer(caching, EMBEDDED)
    assert answer(caching, EMBEDDED, encode_highlights=encode) == answer(plain, EMBEDDED, encode_highlights=encode)
    assert hits(caching, EMBEDDED) == 0


def test_limits_refuse_what_is_known_in_the_same_words(entries: Mapping[str, Entry]) -> None:
    limits = {"max_request_tokens": 600, "max_windows": 9}
    texts = [text(60, seed) for seed in range(8)]
    long = {"limits": LengthLimits(32), "long_documents": "chunk_max"}
    with running(entries, **limits) as plain, running(entries, score_cache=SIZE, **limits) as caching:
        for some, options in ((texts[:3], {}), (texts[3:6], {}), (texts[:2], long), (texts[2:4], long)):
            assert "scores" in answer(caching, texts=some, **options)
        for some, options, said in (
            (texts[:6] * 2, {}, "--max-request-tokens"),  # all known
            (texts * 2, {}, "--max-request-tokens"),  # some known
            (texts[:4], long, "--max-windows"),
            (texts[:5], long, "--max-windows"),
            ([*texts[:3], text(600, 1)], {"long_documents": "error"}, "items[3].text"),
        ):
            got = answer(caching, texts=some, **options)
            assert said in got["message"]
            assert got == answer(plain, texts=some, **options)


def test_errors_are_not_kept(caching: Running) -> None:
    options: dict[str, Any] = {"texts": [text(600, 1)], "long_documents": "error"}
    first = answer(caching, **options)
    assert first["code"] == Code.INPUT_TOO_LONG
    assert answer(caching, **options) == first
    assert sample(caching, "sie_score_cache_entries") == 0


def test_scores_that_are_not_finite_are_not_kept(caching: Running) -> None:
    expected = answer(caching, texts=["another"])
    with patch("sie_server.engine.runner.forward", lambda batch: [math.nan] * len(batch)):
        assert answer(caching)["code"] == Code.INFERENCE_ERROR
    assert sample(caching, "sie_score_cache_entries") == 1
    assert "scores" in answer(caching)
    assert answer(caching, texts=["another"]) == expected


def test_scores_of_other_weights_are_not_found(tmp_path: Path) -> None:
    build(tmp_path / "bert", "bert")
    with running({"bert": Entry("bert", folder=tmp_path / "bert")}, score_cache=SIZE) as handle:
        first = answer(handle)

        async def reload() -> None:
            await handle.engine.residency.unload("bert")

        handle.run(reload())
        assert answer(handle) == first
        assert hits(handle) == 5  # loaded again from the same files
        weights = tmp_path / "bert" / "model.safetensors"
        stat = weights.stat()
        tensors = load_file(weights)
        tensors["classifier.weight"] *= -1
        weights.write_bytes(save(tensors, {"format": "pt"}))
        os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert weights.stat().st_size == stat.st_size
        handle.run(reload())
        assert answer(handle)["scores"] != first["scores"]
        assert hits(handle) == 5


def test_a_model_with_other_settings_has_another_fingerprint(folder: Path) -> None:
    entry, cpu = Entry("bert", folder=folder / "bert"), torch.device("cpu")
    same = {load(entry, cpu, "float32").fingerprint for _ in range(2)}
    others = {
        load(replace(entry, max_length=64), cpu, "float32").fingerprint,
        load(entry, cpu, "bfloat16").fingerprint,
    }
    assert (len(same), len(same | others)) == (1, 3)


def test_a_deadline_that_has_passed_is_kept_with_all_scores_known(caching: Running) -> None:
    answer(caching)
    late = SchedulingParams(deadline=time.perf_counter() - 1)
    assert answer(caching, scheduling=late)["code"] == Code.GATEWAY_TIMEOUT
    assert "scores" in answer(caching, scheduling=SchedulingParams(deadline=time.perf_counter() + 60))


def test_known_scores_do_not_wait_for_the_device(caching: Running) -> None:
    expected = answer(caching)
    with patch.object(caching.engine.scheduler, "next_batch", lambda: None):
        assert answer(caching) == expected


def test_a_client_has_entries_of_its_own_if_so_set(entries: Mapping[str, Entry]) -> None:
    one, other = (SchedulingParams(client=name) for name in ("one", "other"))
    with running(entries, score_cache=SIZE, score_cache_scope="key", api_keys=("a", "b")) as handle:
        first = answer(handle, scheduling=one)
        assert answer(handle, scheduling=other) == first
        assert hits(handle) == 0
        assert answer(handle, scheduling=one) == first
        assert hits(handle) == 5
    with running(entries, score_cache=SIZE, api_keys=("a", "b")) as handle:
        answer(handle, scheduling=one)
        answer(handle, scheduling=other)
        assert hits(handle) == 5


def test_entries_by_key_need_keys() -> None:
    with pytest.raises(ValueError, match="--score-cache-scope key needs API keys"):
        Engine(Settings(score_cache_scope="key"), {}, Metrics())


def test_a_cache_larger_than_the_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="--score-cache 1000000000000000: this machine has"):
        Engine(Settings(score_cache=10**15), {}, Metrics())


def test_the_budget_for_models_leaves_room_for_the_cache() -> None:
    with patch("sie_server.engine.engine.machine_budget", lambda _: 10**9):
        engine = Engine(Settings(device="cpu", score_cache=SIZE), {}, Metrics())
    assert engine.residency._resident_models._memory.budget == 10**9 - SIZE


def test_a_server_answers_from_its_cache(folder: Path) -> None:
    body = {"query": {"text": QUERY}, "items": [{"text": one} for one in TEXTS], "options": {"return_tokens": True}}
    with (
        in_process(model=(f"bert={folder / 'bert'}",), score_cache=SIZE) as server,
        connect(server.url) as client,
    ):
        first, second = (client.post("/v1/score/bert", json=body) for _ in range(2))
        assert (first.status_code, second.json()) == (200, first.json())
        metrics = client.get("/metrics").text
    assert 'sie_score_cache_texts_total{model="bert",result="hit"} 5.0' in metrics
    assert 'sie_score_cache_texts_total{model="bert",result="miss"} 5.0' in metrics
    assert "sie_score_cache_entries 5.0" in metrics
    assert second.headers["X-Inference-Time"] == "0.00"


def test_a_server_keeps_the_scores_of_its_keys_apart(folder: Path) -> None:
    body = {"query": {"text": QUERY}, "items": [{"text": "w1"}]}
    options = {"score_cache": SIZE, "score_cache_scope": "key", "api_keys": ("first", "second")}
    with in_process(model=(f"bert={folder / 'bert'}",), **options) as server, connect(server.url) as client:
        for key in ("first", "second", "second"):
            answer = client.post("/v1/score/bert", json=body, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200
        metrics = client.get("/metrics", headers={"Authorization": "Bearer first"}).text
    assert 'sie_score_cache_texts_total{model="bert",result="hit"} 1.0' in metrics
    assert 'sie_score_cache_texts_total{model="bert",result="miss"} 2.0' in metrics
