"""`GET /metrics`: what it counts, what it is documented as, and that no client makes it grow."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import prometheus_client
import pytest
import torch
from metrics_page import all_metrics
from prometheus_client import CollectorRegistry, generate_latest

from sie_server.catalog.catalog import Entry, shipped
from sie_server.checkpoints.load import load
from sie_server.errors import LoadClass, LoadError
from sie_server.metrics import Histogram, Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Precision
from sie_testing.serving import connect, in_process, metric, poll

BODY = {"query": {"text": "w1"}, "items": [{"text": "w2"}, {"text": "w3 w4 w5"}], "options": {"return_tokens": True}}
CODES = {
    ("/v1/score/bert", "score", "bert"): ({}, "INVALID_INPUT"),
    ("/v1/score/xyzzy", "score", "unknown"): (BODY, "MODEL_NOT_FOUND"),
    ("/v1/embeddings", "embeddings", "unknown"): ({"model": "xyzzy", "input": "w1"}, "MODEL_NOT_FOUND"),
    ("/v1/rerank", "rerank", "unknown"): ({"model": "xyzzy", "query": "w1", "documents": ["w2"]}, "MODEL_NOT_FOUND"),
    ("/v1/extract/bert", "extract", "bert"): ({"items": [{"text": "w1"}]}, "INVALID_INPUT"),
    ("/v1/scores/bert", "unknown", "unknown"): (BODY, "NOT_FOUND"),
    ("/v1/models", "unknown", "unknown"): (BODY, "METHOD_NOT_ALLOWED"),
}


def _load(entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
    if entry.id == "broken":
        raise LoadError(LoadClass.GATED, "it is gated")
    if entry.id == "worse":
        raise ZeroDivisionError
    return load(entry, device, precision)


@pytest.fixture(scope="module")
def watched(models: Path) -> Iterator[httpx2.Client]:
    """A client of a server that nobody else asks."""
    paths = (str(models / "bert"), f"broken={models / 'bert'}", f"worse={models / 'bert'}")
    with in_process(_load, model=paths, workers=1, precision="float32") as running, connect(running.url) as client:
        yield client


def series(api: httpx2.Client) -> set[str]:
    """Every series of ours there is, without the values."""
    return {line.rsplit(" ", 1)[0] for line in api.get("/metrics").text.splitlines() if line.startswith("sie_")}


def test_every_metric_is_declared_with_its_meaning() -> None:
    text = Metrics().render().decode()
    described = {(found[1], found[2]) for found in re.finditer(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)}
    ours = {(name, kind) for name, kind in described if not name.endswith("_created")}
    assert ours == {(metric.name, metric.kind) for metric in all_metrics()}
    for each in all_metrics():
        assert re.fullmatch(r"(sie|process)_[a-z_]+", each.name)
        assert len(each.meaning) > 10, each.name


def test_a_histogram_is_written_as_the_client_library_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1700000000.5)
    written = []
    for kind in (Histogram, prometheus_client.Histogram):
        registry = CollectorRegistry()
        labelled = kind(
            "a_seconds", "Several\nlines \\", ["model", "phase"], buckets=(0.001, 1, 2.5, 1e9), registry=registry
        )
        kind("b", "No series", ["model"], buckets=(1,), registry=registry)
        plain = kind("c", "No labels", buckets=(1, 2), registry=registry)
        for value in (0.001, 0.0011, 1, 7, 3e9, 0):
            labelled.labels('m"', "queue").observe(value)
            plain.observe(value)
        labelled.labels("n", "total").observe(1.5)
        written.append(generate_latest(registry))
    assert written[0] == written[1]


@pytest.mark.parametrize(("where", "asked"), CODES.items())
def test_errors_are_counted_by_code(
    watched: httpx2.Client, where: tuple[str, str, str], asked: tuple[dict[str, Any], str]
) -> None:
    (path, endpoint, model), (body, code) = where, asked
    labels = {"code": code, "endpoint": endpoint, "model": model}
    before = metric(watched, "sie_errors_total", **labels)
    assert watched.post(path, json=body).status_code >= 400
    assert metric(watched, "sie_errors_total", **labels) == before + 1
    assert metric(watched, "sie_requests_in_progress") == 0


def test_no_client_makes_series(watched: httpx2.Client) -> None:
    def ask(name: str) -> None:
        watched.post(f"/v1/score/{name}", json=BODY)
        watched.post(f"/v1/encode/{name}:{name}", json={"items": [{"text": "w1"}]})
        watched.post("/v1/embeddings", json={"model": name, "input": "w1"})
        watched.post("/v1/embeddings", json={"model": 1, "input": name})
        watched.post("/v1/rerank", json={"model": name, "query": "w1", "documents": ["w2"]})
        watched.post(f"/v1/extract/{name}", json={"items": [{"text": "w1"}]})
        watched.post(f"/v1/{name}", json=BODY)
        watched.get(f"/v1/models/{name}")
        watched.request("PROPFIND", f"/v1/models/{name}")

    ask("first")
    before = series(watched)
    for name in ("a", "b/c", "bert2", 'x"} 1%0Asie_x{y="', "\N{SNOWMAN}"):
        ask(name)
    assert series(watched) == before


def test_stages_and_padding_of_a_request(watched: httpx2.Client) -> None:
    watched.post("/v1/score/bert", json=BODY)
    before = metric(watched, "sie_padding_avoided_tokens_total", model="bert")
    phases = ("total", "queue", "tokenize", "inference", "postprocess")

    def counts() -> list[float]:
        labels = {"endpoint": "score", "model": "bert"}
        return [metric(watched, "sie_request_duration_seconds_count", **labels, phase=phase) for phase in phases]

    counted = counts()
    lengths = [entry["tokens"] for entry in watched.post("/v1/score/bert", json=BODY).json()["scores"]]
    assert counts() == [count + 1 for count in counted]
    # One budget takes both documents, and one thread runs them.
    poll(lambda: metric(watched, "sie_padding_avoided_tokens_total", model="bert") > before)
    avoided = metric(watched, "sie_padding_avoided_tokens_total", model="bert") - before
    assert avoided == 2 * max(lengths) - sum(lengths) == 2


def test_words_that_are_known_are_hits(watched: httpx2.Client) -> None:
    def words() -> tuple[float, float, float]:
        hits, misses = (metric(watched, "sie_tokenizer_words_total", model="bert", result=r) for r in ("hit", "miss"))
        return hits, misses, metric(watched, "sie_tokenizer_known_words", model="bert")

    watched.post("/v1/score/bert", json=BODY)
    hits, misses, known = words()
    watched.post("/v1/score/bert", json=BODY)
    assert words() == (hits + 5, misses, known)
    watched.post("/v1/score/bert", json={**BODY, "items": [{"text": "w2 w1234567"}]})
    assert words() == (hits + 5 + 2, misses + 1, known + 1)


def test_models_and_their_loads(watched: httpx2.Client) -> None:
    for model in ("bert", "broken", "worse"):
        watched.post(f"/v1/score/{model}", json=BODY)
    states = {state: metric(watched, "sie_models", state=state) for state in ("available", "loaded", "failed")}
    assert states == {"available": len(shipped()), "loaded": 1, "failed": 2}
    assert metric(watched, "sie_model_load_duration_seconds_count", model="bert") == 1
    assert metric(watched, "sie_model_load_failures_total", error_class="GATED", model="broken") == 1
    assert metric(watched, "sie_model_load_failures_total", error_class="UNKNOWN", model="worse") >= 1
    assert metric(watched, "sie_queue_tokens", model="bert") == 0


def test_the_server_and_its_device(watched: httpx2.Client) -> None:
    watched.post("/v1/score/bert", json=BODY)
    poll(lambda: metric(watched, "sie_device_busy_seconds_total", device="cpu") > 0)
    busy = metric(watched, "sie_device_busy_seconds_total", device="cpu")
    assert busy == pytest.approx(metric(watched, "sie_batch_duration_seconds_sum", model="bert"))
    assert metric(watched, "sie_device_threads", device="cpu") == 1
    assert (metric(watched, "sie_ready"), metric(watched, "sie_batch_budget_tokens")) == (1, 512)
    assert metric(watched, "sie_queue_limit_tokens") == 1_000_000
    assert metric(watched, "process_resident_memory_bytes") > 50_000_000
    poll(lambda: metric(watched, "sie_event_loop_lag_seconds_count") > 1)
