"""What is wrong with one folder stays with it: the server starts, looks after the others, and says what it is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.description import inspect
from sie_server.errors import LoadClass
from sie_server.residency.models_folder import ModelsFolder
from sie_testing.checkpoints import SMALL
from sie_testing.serving import connect, error, in_process, poll

QUERY = {"query": {"text": "what is python"}, "items": [{"text": "a language"}]}
CONFIG: dict[str, Any] = {
    **SMALL,
    "architectures": ["BertForSequenceClassification"],
    "max_position_embeddings": 512,
    "model_type": "bert",
}


def config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))


def written(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


def pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def directory(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


# What somebody may have written, and a word of what is said about it.
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "deep": (lambda f: written(f, "config.json", b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "nested too deep"),
    "not-utf8": (lambda f: written(f, "config.json", b'{"model_type":"\xff\xfe"}'), "is not JSON"),
    "list": (lambda f: written(f, "config.json", b"[1]"), "is not a JSON object"),
    "empty": (lambda f: written(f, "config.json", b""), "is not JSON"),
    "huge": (lambda f: written(f, "config.json", b" " * (17 * 2**20)), "has more than 16,777,216 bytes"),
    "pipe": (pipe, "not a regular file"),
    "directory": (directory, "not a regular file"),
    "layers-null": (lambda f: config(f, num_hidden_layers=None), "num_hidden_layers"),
    "heads-0": (lambda f: config(f, num_attention_heads=0), "num_attention_heads"),
    "hidden-string": (lambda f: config(f, hidden_size="abc"), "hidden_size"),
    "labels-int": (lambda f: config(f, id2label=5), "id2label"),
    "architectures-int": (lambda f: config(f, architectures=5), "architectures"),
    "settings-int": (lambda f: config(f, sentence_transformers=5), "sentence_transformers"),
    "type-list": (lambda f: config(f, model_type=["bert"]), "model_type"),
    "type-missing": (lambda f: config(f, model_type=None, architectures=None), "model_type"),
    "million-layers": (lambda f: config(f, num_hidden_layers=20_000_000), "num_hidden_layers"),
    "limit": (lambda f: written(f, "sentence_bert_config.json", b'{"max_seq_length": -5}'), "max_seq_length"),
    "limit-2": (lambda f: written(f, "sentence_bert_config.json", b'{"max_seq_length": 2}'), "max_seq_length 2"),
    "gemma": (lambda f: config(f, model_type="gemma", hidden_activation="silu"), "hidden_activation 'silu'"),
    "modules": (lambda f: written(f, "modules.json", b"{}"), "modules.json"),
    "pooling": (lambda f: written(f, "1_Pooling/config.json", b'{"pooling_mode": 5}'), "pooling"),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "bad").mkdir()
    config(tmp_path / "bad")
    written(tmp_path / "bad", "model.safetensors", b"x")
    return tmp_path / "bad"


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_a_folder_holds_is_said_of_it_and_raised_from_nothing(checkpoint: Path, name: str) -> None:
    spoil, word = FAULTS[name]
    spoil(checkpoint)
    entry, fault = inspect(Entry("bad", folder=checkpoint))
    assert entry.id == "bad"
    assert fault is not None
    assert fault.kind is LoadClass.CONFIG
    assert word in str(fault)
    assert "can't be parsed" not in str(fault), "nobody foresaw it"


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 20_000,
        b"sie_id: 2001-99-99\n",
        b"a: &a [x, x]\nb: &b [*a, *a]\nsie_id: m\nhf_id: x/y\n",
        b"sie_id: \xff\xfe\n",
        b" " * (2**20 + 1),
        b"sie_id: 5\nhf_id: [1]\n",
        b"null",
    ],
)
def test_whatever_a_file_holds_is_logged_and_the_others_are_found(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    (tmp_path / "good.yaml").write_text("sie_id: m\nhf_id: a/b\n")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 20_000)
    assert [entry.id for entry in ModelsFolder(tmp_path, ()).poll().entries] == ["m"]
    assert "bad.yaml: " in caplog.text
    assert "deep.toml: " in caplog.text


def test_a_server_serves_the_others_and_finds_those_that_come_later(models: Path, tmp_path: Path) -> None:
    watched = tmp_path / "models"
    watched.mkdir()
    bad = tmp_path / "bad"
    shutil.copytree(models / "bert", bad)
    (bad / "config.json").write_text('{"model_type": "bert", "vocab_size": "many"}')
    shutil.copytree(bad, watched / "first-bad")
    written(tmp_path / "empty", "adapter_config.json", b"{}")
    named = (str(bad), str(tmp_path / "empty"), f"good={models / 'bert'}")
    settings: dict[str, Any] = {"model": named, "models_dir": str(watched)}
    with in_process(**settings, precision="float32", load_wait=30.0) as running, connect(running.url) as api:
        for name in ("bad", "first-bad"):
            listed = api.get(f"/v1/models/{name}").json()
            assert listed["last_error"]["code"] == "CONFIG"
            assert "vocab_size" in listed["last_error"]["message"]
            status, code, message = error(api.post(f"/v1/score/{name}", json=QUERY))[:3]
            assert (status, code) == (502, "MODEL_LOAD_FAILED")
            assert "vocab_size" in message
        assert "holds an adapter" in api.get("/v1/models/empty").json()["last_error"]["message"]
        assert "holds an adapter" in error(api.post("/v1/score/empty", json=QUERY))[2]
        assert api.post("/v1/score/good", json=QUERY).status_code == 200
        shutil.copytree(models / "bert", tmp_path / "copy")
        (tmp_path / "copy").rename(watched / "later")
        poll(lambda: api.get("/v1/models/later").status_code == 200)
        # What was mended is served.
        shutil.copy(models / "bert" / "config.json", watched / "first-bad")
        poll(lambda: api.post("/v1/score/first-bad", json=QUERY).status_code == 200)
        assert api.get("/v1/models/first-bad").json()["last_error"] is None
