"""A load reads each file of a checkpoint once, the weighing ahead of it included."""

import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.description import inspect
from sie_server.checkpoints.load import load, weigh
from sie_server.errors import LoadError, UnsupportedModelError
from sie_testing import late_interaction_checkpoints as late_checkpoints
from sie_testing.checkpoints import build, build_modular

CPU = torch.device("cpu")


class Opened:
    """Counts how often Python opens each file in `folder`. Audit hooks can't be removed, so there is one."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.times = Counter[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is not None and event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = Path(os.fspath(arguments[0]))
            if path.is_relative_to(self.folder) and path.is_file():
                self.times[path.relative_to(self.folder).as_posix()] += 1


OPENED = Opened()


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Counter[str]]]:
    """Begins to count the files that are opened in a folder."""

    def start(folder: Path) -> Counter[str]:
        OPENED.folder, OPENED.times = folder, Counter()
        return OPENED.times

    yield start
    OPENED.folder = None


def sharded(folder: Path) -> None:
    build(folder, "bert")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(sorted(weights))}
    for file in set(files.values()):
        save_file({name: weights[name] for name in weights if files[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def with_vocabulary_only(folder: Path) -> None:
    build(folder, "bert")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    (folder / "tokenizer.json").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "BertTokenizer"}))


def with_chat_template(folder: Path) -> None:
    build(folder / "transformers", "qwen3")
    CrossEncoder(str(folder / "transformers"), device="cpu").save_pretrained(str(folder))


FOLDERS: dict[str, Callable[[Path], object]] = {
    "transformers": lambda folder: build(folder, "bert"),
    "unnamed-architecture": lambda folder: edited(folder, "bert", architectures=None),
    "vocabulary": with_vocabulary_only,
    "shards": sharded,
    "modules": lambda folder: build_modular(folder, "modernbert-encoder", "cls"),
    "stanford": late_checkpoints.stanford,
    "pylate": late_checkpoints.pylate,
    "sentence-transformers": lambda folder: late_checkpoints.saved_again(
        late_checkpoints.pylate(folder / "pylate"), folder
    ),
    "bge-m3": late_checkpoints.bge_m3,
    "pickled": lambda folder: late_checkpoints.bge_m3(folder, pickled=True),
    "decoder": lambda folder: build(folder, "qwen3"),
    "decoder-classifier": lambda folder: build(folder, "qwen3-classifier"),
    "chat-template": with_chat_template,
}


def edited(folder: Path, name: str, **changes: Any) -> None:
    build(folder, name)
    late_checkpoints.edit(folder / "config.json", **changes)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_load_opens_every_file_once(name: str, tmp_path: Path, opened: Callable[[Path], Counter[str]]) -> None:
    FOLDERS[name](tmp_path)
    entry = Entry("m", folder=tmp_path, pickled=name in ("bge-m3", "pickled"))
    times = opened(tmp_path)
    weighed = weigh(entry, CPU, "float32")
    assert weighed is not None
    assert not any("tokenizer.json" in file for file in times), "weights can be weighed without a tokenizer"
    load(entry, CPU, "float32", weighed=weighed)
    assert {"config.json", "tokenizer_config.json"} <= set(times)
    assert any(file.endswith((".safetensors", ".bin")) for file in times)
    assert {file: count for file, count in times.items() if count > 1} == {}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_look_at_a_folder_opens_every_file_once_and_keeps_none(
    name: str, tmp_path: Path, opened: Callable[[Path], Counter[str]]
) -> None:
    FOLDERS[name](tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    times = opened(tmp_path)
    _, fault = inspect(Entry("m", folder=tmp_path, pickled=name in ("bge-m3", "pickled")))
    assert fault is None
    assert set(times.values()) == {1}
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_model_that_was_weighed_and_is_not_loaded_is_closed(models: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    weighed = weigh(Entry("m", folder=models / "bert"), CPU)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    del weighed
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_load_reads_anew_what_has_changed_since_it_was_weighed(tmp_path: Path) -> None:
    build(tmp_path, "bert")
    entry = Entry("m", folder=tmp_path)
    weighed = weigh(entry, CPU, "float32")
    path = tmp_path / "model.safetensors"
    save_file({name: value * 1.5 for name, value in load_file(path).items()}, path, {"format": "pt"})
    model, expected = load(entry, CPU, "float32", weighed=weighed), load(entry, CPU, "float32")
    for ours, theirs in zip(model.encoder.parameters(), expected.encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("file", ["modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_something_else_in_place_of_an_optional_file_is_refused_by_name(
    file: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    build(tmp_path, "bert")
    make(tmp_path / file)
    with pytest.raises(UnsupportedModelError, match=f"{file} is not a regular file"):
        load(Entry("m", folder=tmp_path), CPU)


def test_files_that_are_not_there_are_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        checkpoint = Checkpoint(folder)
        assert not checkpoint.has("config.json")
        assert checkpoint.optional_json("config.json") == {}
        assert (checkpoint.weight_files, checkpoint.weight_map) == ([], {})
        with pytest.raises(LoadError, match=r"config\.json is missing from"):
            checkpoint.json("config.json")
