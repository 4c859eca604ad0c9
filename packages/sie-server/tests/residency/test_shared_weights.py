"""Several names, one set of weights: who shares them, what they count, when they leave, and that no bit changes."""

import asyncio
import gc
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from sie_server.catalog.catalog import Entry, Profile
from sie_server.checkpoints.load import Encoders, load, weigh
from sie_server.engine.calls import EncodeCall, ScoreCall
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Comparison
from sie_testing.checkpoints import build, text
from sie_testing.engine_loop import Running, running
from sie_testing.late_interaction_checkpoints import bge_m3

CPU = torch.device("cpu")
QUERY = "what is w9"
TEXTS = [text(length, 1) + " w9 is what" for length in (3, 40, 9, 200, 7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("bert", "qwen3"):
        build(folder / name, name)
    bge_m3(folder / "m3")
    return folder


def two(folder: Path, **differences: Any) -> dict[str, Entry]:
    """One folder under two names, the second with other settings."""
    return {"a": Entry("a", folder=folder), "b": Entry("b", folder=folder, **differences)}


def scores(handle: Running, name: str, mode: Any = "dense") -> list[float]:
    return handle.run(handle.engine.score(ScoreCall(name, QUERY, TEXTS, comparison=Comparison(mode)))).scores


def alone(entry: Entry, mode: Any = "dense", **settings: Any) -> list[float]:
    with running({entry.id: entry}, **settings) as handle:
        return scores(handle, entry.id, mode)


def model(handle: Running, name: str) -> LoadedModel:
    loaded = handle.engine.residency.slots[name].model
    assert loaded is not None
    return loaded


def gauge(handle: Running, name: str) -> float | None:
    return handle.engine._metrics.registry.get_sample_value("sie_model_memory_bytes", {"model": name, "device": "cpu"})


def unload(handle: Running, name: str) -> None:
    async def work() -> None:
        await handle.engine.residency.unload(name)

    handle.run(work())


@pytest.mark.parametrize("name", ["bert", "qwen3", "m3"])
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_two_names_of_a_folder_share_its_weights_and_have_the_bits_of_each_alone(
    folder: Path, name: str, precision: str
) -> None:
    entries = two(folder / name, max_length=128)
    mode = "sparse" if name == "m3" else "dense"
    expected = {each: alone(entry, mode, precision=precision) for each, entry in entries.items()}
    assert expected["a"] != expected["b"], "they cut the long text elsewhere"
    with running(entries, precision=precision, score_cache=2**20) as handle:
        for _ in range(2):  # the second time from the score cache
            assert {each: scores(handle, each, mode) for each in entries} == expected
        a, b = model(handle, "a"), model(handle, "b")
        assert a.encoder is b.encoder
        assert [gauge(handle, "a"), gauge(handle, "b")] == [a.bytes, 0]
        unload(handle, "a")
        assert [gauge(handle, "a"), gauge(handle, "b")] == [0, b.bytes]
        assert scores(handle, "b", mode) == expected["b"]


def test_links_to_a_folder_share_its_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder / "bert")
    (tmp_path / "files").mkdir()
    for file in (folder / "bert").iterdir():
        (tmp_path / "files" / file.name).symlink_to(file)
    entries = {path.name: Entry(path.name, folder=path) for path in (folder / "bert", *tmp_path.iterdir())}
    with running(entries) as handle:
        assert len({tuple(scores(handle, name)) for name in entries}) == 1
        assert len({id(model(handle, name).encoder) for name in entries}) == 1


def test_first_requests_for_all_names_at_once_load_the_weights_once(folder: Path) -> None:
    entries = {name: Entry(name, folder=folder / "bert") for name in "abcd"}

    async def everything(handle: Running) -> list[Any]:
        return await asyncio.gather(*(handle.engine.score(ScoreCall(name, QUERY, TEXTS)) for name in entries))

    with running(entries) as handle:
        rankings = handle.run(everything(handle))
        assert len({tuple(ranking.scores) for ranking in rankings}) == 1
        assert len({id(model(handle, name).encoder) for name in entries}) == 1


def test_weights_of_two_names_need_room_for_one(folder: Path) -> None:
    entries = two(folder / "bert")
    with running(entries, workers=1) as handle:
        scores(handle, "a")
        footprint = handle.engine.residency.slots["a"].footprint
    assert footprint is not None
    budget = footprint.weights + footprint.batch + footprint.weights // 2
    with running(entries, memory_budget=budget, workers=1) as handle:
        for name in ("a", "b", "a"):
            scores(handle, name)
        assert handle.engine.residency.slots["a"].state == handle.engine.residency.slots["b"].state == "loaded"


def test_weights_leave_memory_with_their_last_user(folder: Path) -> None:
    with running(two(folder / "bert")) as handle:
        encoders: Encoders = handle.engine._encoders
        for name in "ab":
            scores(handle, name)
        for name, left in (("a", 1), ("b", 0)):
            unload(handle, name)
            gc.collect()
            assert len(encoders) == left
        expected = scores(handle, "a")
        assert scores(handle, "b") == expected


def test_a_folder_that_changes_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    build(tmp_path, "bert")
    with running(two(tmp_path)) as handle:
        before = scores(handle, "a")
        weights = tmp_path / "model.safetensors"
        stat, tensors = weights.stat(), load_file(weights)
        tensors["classifier.weight"] *= -1
        weights.write_bytes(save(tensors, {"format": "pt"}))
        os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert scores(handle, "b") != before
        assert scores(handle, "a") == before
        assert model(handle, "a").encoder is not model(handle, "b").encoder
    assert alone(Entry("b", folder=tmp_path)) != before


@pytest.mark.parametrize(
    ("name", "different"),
    [
        ("bert", lambda entry, encoders: load(entry, CPU, "bfloat16", encoders=encoders)),
        ("bert", lambda entry, encoders: load(entry, CPU, "int8", encoders=encoders)),
        ("qwen3", lambda entry, encoders: load(replace(entry, outputs=("dense",)), CPU, "float32", encoders=encoders)),
        (
            "qwen3",
            lambda entry, encoders: load(replace(entry, prompt="mxbai-rerank-v2"), CPU, "float32", encoders=encoders),
        ),
    ],
    ids=["bfloat16", "int8", "no head", "other answers"],
)
def test_weights_that_differ_are_not_shared(
    folder: Path, name: str, different: Callable[[Entry, Encoders], LoadedModel]
) -> None:
    entry, encoders = Entry("m", folder=folder / name), Encoders()
    first = load(entry, CPU, "float32", encoders=encoders)
    second = different(entry, encoders)
    assert first.encoder is not second.encoder
    assert load(entry, CPU, "float32", encoders=encoders).encoder is first.encoder


def test_weighing_finds_weights_in_memory_and_keeps_them(folder: Path) -> None:
    encoders = Encoders()
    a, b = two(folder / "bert").values()
    assert getattr(weigh(a, CPU, "float32", encoders), "encoder", ...) is None
    first = load(a, CPU, "float32", encoders=encoders)
    weighed, identity = weigh(b, CPU, "float32", encoders), id(first.encoder)
    del first
    gc.collect()
    assert weighed is not None
    assert id(load(b, CPU, "float32", weighed=weighed, encoders=encoders).encoder) == identity


def test_embeddings_of_a_shared_model_have_the_bits_of_one_alone(folder: Path) -> None:
    def vectors(handle: Running, name: str) -> list[Any]:
        call = EncodeCall(name, TEXTS, ["dense", "multivector"])
        encoding = handle.run(handle.engine.encode(call))
        return [(vector["dense"].tobytes(), vector["multivector"].tobytes()) for vector in encoding.vectors]

    entries = two(folder / "m3", profiles={"sparse": Profile(output_types=("sparse",))})
    with running({"b": entries["b"]}) as handle:
        expected = vectors(handle, "b")
    with running(entries) as handle:
        assert vectors(handle, "a") == vectors(handle, "b") == expected
        assert model(handle, "a").encoder is model(handle, "b").encoder
