"""Loads while files change, sizes that nothing stands behind, and loads that nobody waits for any more."""

import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.cancellation import GIVEN_UP
from sie_server.checkpoints.load import load, weigh
from sie_server.checkpoints.tensor_file import SafetensorsFile, TensorFile
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_testing.checkpoints import build

CPU = torch.device("cpu")


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models / "bert", tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def newer(models: Path, tmp_path: Path) -> Path:
    """The same model with other weights."""
    shutil.copytree(models / "bert", tmp_path / "newer")
    path = tmp_path / "newer" / "model.safetensors"
    save_file({name: value * 1.5 for name, value in load_file(path).items()}, path, {"format": "pt"})
    return tmp_path / "newer"


@torch.inference_mode()
def scores(model: LoadedModel) -> list[float]:
    sequences = model.tokenizer.encode_pairs("what is python", ["a language", "snakes are reptiles"])
    assert model.encoder.head is not None
    return model.encoder.head(*model.encoder(Packed.of(sequences, CPU)), sequences)


def loaded(folder: Path) -> list[float]:
    return scores(load(Entry("m", folder=folder), CPU, "float32"))


def refusal(folder: Path) -> LoadError:
    with pytest.raises(LoadError) as refused:
        load(Entry("m", folder=folder), CPU, "float32")
    return refused.value


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None], int], None]:
    """Has something done in front of the n-th tensor that is read."""

    def install(do: Callable[[], None], nth: int) -> None:
        read, count = TensorFile.read, 0

        def counted(self: TensorFile, *arguments: Any) -> None:
            nonlocal count
            count += 1
            if count == nth:
                do()
            read(self, *arguments)

        monkeypatch.setattr(TensorFile, "read", counted)

    return install


# --- files of one moment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 20, 50])
def test_weights_that_are_replaced_during_a_load_are_never_mixed(
    folder: Path, newer: Path, between: Callable[..., None], nth: int
) -> None:
    expected = loaded(newer)
    between(lambda: os.replace(newer / "model.safetensors", folder / "model.safetensors"), nth)
    assert loaded(folder) == expected


def test_weights_that_are_written_over_in_place_are_never_mixed(
    folder: Path, newer: Path, between: Callable[..., None]
) -> None:
    """Of the same size, on the same inode, and with the old times put back."""
    expected = loaded(newer)
    path = folder / "model.safetensors"
    before = path.stat()

    def overwrite() -> None:
        with path.open("r+b") as file:
            file.write((newer / "model.safetensors").read_bytes())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    between(overwrite, 20)
    assert loaded(folder) == expected


def test_a_folder_that_is_exchanged_during_a_load_is_read_again(
    folder: Path, newer: Path, tmp_path: Path, between: Callable[..., None]
) -> None:
    expected = loaded(newer)

    def exchange() -> None:
        folder.rename(tmp_path / "old")
        newer.rename(folder)

    between(exchange, 20)
    assert loaded(folder) == expected


def test_a_folder_that_never_stays_the_same_is_a_failure_that_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = TensorFile.read

    def flapping(self: TensorFile, *arguments: Any) -> None:
        os.utime(folder / "tokenizer.json")
        read(self, *arguments)

    monkeypatch.setattr(TensorFile, "read", flapping)
    refused = refusal(folder)
    assert "changed during each of the 4 attempts to read it" in str(refused)
    assert (refused.kind, refused.permanent) == (LoadClass.STORAGE, False)


@pytest.mark.parametrize("file", ["", "config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_missing_for_a_moment_is_waited_for(folder: Path, file: str) -> None:
    expected = loaded(folder)
    away = folder.with_name("away")
    (folder / file).rename(away)
    back = threading.Timer(0.1, lambda: away.rename(folder / file))
    back.start()
    assert loaded(folder) == expected
    back.join()


@pytest.mark.parametrize("file", ["", "config.json", "model.safetensors", "tokenizer.json"])
def test_a_load_without_a_file_is_tried_again_later(folder: Path, file: str) -> None:
    (folder / file).rename(folder.with_name("away"))
    refused = refusal(folder)
    assert (refused.kind, refused.permanent) == (LoadClass.STORAGE, False)


CUT = """
import os, sys
from pathlib import Path
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    import torch
    from sie_server.checkpoints.load import load
from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.tensor_file import TensorFile

path, read = Path(sys.argv[1], "model.safetensors"), TensorFile.read

def cut(self, *arguments):
    os.truncate(path, 5000)
    read(self, *arguments)

TensorFile.read = cut
try:
    load(Entry("m", folder=path.parent), torch.device("cpu"))
except Exception as error:
    print(type(error).__name__, error.kind, error)
"""


def test_a_file_that_is_cut_short_during_a_load_fails_that_load_alone(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CUT, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("LoadError STORAGE")


def test_a_loaded_model_keeps_nothing_of_its_files(folder: Path) -> None:
    model = load(Entry("m", folder=folder), CPU, "float32")
    expected = scores(model)
    assert str(folder) not in Path("/proc/self/maps").read_text()
    os.truncate(folder / "model.safetensors", 0)
    assert scores(model) == expected


# --- sizes -----------------------------------------------------------------------------------------------------------


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("layers", [2, 4, 1000])
def test_layers_are_held_against_the_weights(folder: Path, layers: int) -> None:
    edit(folder, num_hidden_layers=layers)
    expected = f"config.json says num_hidden_layers {layers}; model.safetensors has layers 0 to 2"
    assert expected in str(refusal(folder))


@pytest.mark.parametrize("layers", [1_000_000, 10**30])
def test_more_layers_than_any_model_has_are_refused_by_name(folder: Path, layers: int) -> None:
    edit(folder, num_hidden_layers=layers)
    assert f"num_hidden_layers {layers}" in str(refusal(folder))


@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "type_vocab_size"]
)
@pytest.mark.parametrize("size", [10**9, 10**30])
def test_sizes_take_no_memory_before_they_are_held_against_the_weights(folder: Path, key: str, size: int) -> None:
    edit(folder, **{key: size})
    assert isinstance(refusal(folder), UnsupportedModelError)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bytes_of_weights_are_known_before_they_are_read(folder: Path, precision: Any) -> None:
    weighed = weigh(Entry("m", folder=folder), CPU, precision)
    assert weighed is not None
    known = weighed.bytes
    model = load(Entry("m", folder=folder), CPU, precision, weighed=weighed)
    # Panels of weights are filled up to whole ones, which is much of so small a model.
    assert known <= model.bytes <= 1.05 * known


def test_tables_of_positions_do_not_count_for_every_token(tmp_path: Path) -> None:
    memory = {}
    for positions in (512, 131_072, 2**24):
        folder = tmp_path / str(positions)
        build(folder, "modernbert", max_position_embeddings=512)
        edit(folder, max_position_embeddings=positions)
        model = load(Entry("m", folder=folder), CPU, "float32")
        memory[positions] = model.bytes, model.token_bytes
    assert len(set(memory.values())) == 1


def header(**tensors: Any) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def described(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it has 0 bytes"),
        (struct.pack("<Q", 2**63), "its header has 9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 100), "and the file 8"),
        (struct.pack("<Q", 2) + b"[]", "its header"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "its header"),
        (header(a=described(0, 8, [2])), "its tensors end at byte"),
        (header(a=described(0, 8, [2])) + bytes(9), "its tensors end at byte"),
        (header(a=described(0, 8, [2]), b=described(4, 12, [2])) + bytes(12), "b is not where its header says"),
        (header(a=described(4, 12, [2])) + bytes(12), "a is not where its header says"),
        (header(a=described(0, 8, [3])) + bytes(8), "a has 8 bytes, which is not its shape (3,)"),
        (header(a=described(0, 8, [-1, -2])) + bytes(8), "a is not where its header says"),
        (header(a=described(0, 8, [2**62, 2**62])) + bytes(8), "which is not its shape"),
        (header(a=described(0, 8, [2], "F7")) + bytes(8), "a has elements of 'F7'"),
        (header(a={"dtype": "F32"}), "its header"),
    ],
)
def test_a_header_that_does_not_describe_its_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(LoadError, match="is not a readable safetensors file") as refused:
        SafetensorsFile(tmp_path / "x.safetensors")
    assert words in str(refused.value)


@pytest.mark.parametrize("shape", [(), (64, 64, 1), (1, 64)])
def test_a_tensor_of_other_dimensions_is_refused(folder: Path, shape: tuple[int, ...]) -> None:
    path = folder / "model.safetensors"
    save_file({**load_file(path), "bert.encoder.layer.0.output.LayerNorm.weight": torch.ones(shape)}, path)
    assert f"has shape {shape}" in str(refusal(folder))


def test_weights_that_are_no_floats_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "bert.encoder.layer.1.output.dense.weight"
    save_file({**weights, name: weights[name].to(torch.int8)}, path)
    assert f"{name} is stored as I8; supported: F64, F32, F16, BF16" in str(refusal(folder))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_pipe_in_place_of_a_file_is_not_waited_at(folder: Path, file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert isinstance(refusal(folder), LoadError)


# --- given up --------------------------------------------------------------------------------------------------------


def test_a_load_that_is_given_up_ends_at_its_next_step(folder: Path, between: Callable[..., None]) -> None:
    given_up = threading.Event()
    token = GIVEN_UP.set(given_up)
    between(given_up.set, 20)
    try:
        refused = refusal(folder)
    finally:
        GIVEN_UP.reset(token)
    assert refused.kind is LoadClass.TIMEOUT
