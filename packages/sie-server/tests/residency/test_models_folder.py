"""A folder of models that is watched: what appears in it is served, what changes is loaded anew, what goes is gone."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import httpx2
import pytest
from safetensors.torch import load_file, save_file

from sie_server.residency.models_folder import ModelsFolder
from sie_testing.serving import connect, error, in_process, poll, scores

QUERY, DOCUMENTS = "what is python", ["a language", "snakes are reptiles"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def checkpoint(path: Path, weights: bytes = b"weights", config: str = "{}") -> None:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(config)
    (path / "model.safetensors").write_bytes(weights)


def polled(watched: ModelsFolder) -> tuple[list[str], list[str]]:
    changes = watched.poll()
    return [entry.id for entry in changes.entries], changes.gone


# --- what a poll finds -----------------------------------------------------------------------------------------------


def test_folders_present_at_the_start_are_added_at_once(folder: Path) -> None:
    checkpoint(folder / "b")
    checkpoint(folder / "a")
    checkpoint(folder / ".hidden")
    (folder / "notes").mkdir()
    (folder / "README.md").write_text("ours")
    watched = ModelsFolder(folder, ())
    assert polled(watched) == (["a", "b"], [])
    assert polled(watched) == ([], [])


def test_folders_added_later_are_taken_once_they_stop_changing(folder: Path) -> None:
    watched = ModelsFolder(folder, ())
    assert polled(watched) == ([], [])
    (folder / "a").mkdir()
    (folder / "a" / "config.json").write_text("{}")
    assert polled(watched) == polled(watched) == ([], []), "no weights yet"
    for size in (10, 20, 30):
        checkpoint(folder / "a", b"w" * size)
        assert polled(watched) == ([], []), "still being written"
    assert polled(watched) == (["a"], [])
    assert polled(watched) == ([], [])


def test_changed_folders_are_reloaded_and_removed_ones_unloaded(folder: Path) -> None:
    checkpoint(folder / "a")
    watched = ModelsFolder(folder, ())
    polled(watched)
    (folder / "a" / "tokenizer.json").write_text("{}")
    assert polled(watched) == ([], [])
    assert polled(watched) == (["a"], [])
    shutil.rmtree(folder / "a")
    assert polled(watched) == ([], [])
    assert polled(watched) == ([], ["a"])


def test_a_folder_replaced_between_two_polls_has_changed(folder: Path) -> None:
    checkpoint(folder / "a")
    watched = ModelsFolder(folder, ())
    polled(watched)
    shutil.rmtree(folder / "a")
    assert polled(watched) == ([], [])
    checkpoint(folder / "a", b"other weights")
    assert polled(watched) == ([], [])
    assert polled(watched) == (["a"], [])


def test_a_link_to_another_folder_is_a_change(folder: Path, tmp_path: Path) -> None:
    for version in ("1", "2"):
        checkpoint(tmp_path / version)
    (folder / "a").symlink_to(tmp_path / "1")
    watched = ModelsFolder(folder, ())
    assert watched.poll().entries[0].folder == tmp_path / "1"
    (folder / "a").unlink()
    (folder / "a").symlink_to(tmp_path / "2")
    watched.poll()
    assert watched.poll().entries[0].folder == tmp_path / "2"


def test_folders_without_a_checkpoint_are_ignored(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint(folder / "before")
    checkpoint(Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")))
    (folder / "round").symlink_to(folder / "round")
    (folder / "nowhere").symlink_to(folder / "gone")
    for name in ("pipe", "pipes"):
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_bytes(b"w")
        os.mkfifo(folder / name / "config.json")
    os.mkfifo(folder / "pipe.yaml")
    (folder / "large.yaml").write_text("#" * 2**21)
    watched = ModelsFolder(folder, ())
    assert polled(watched) == (["before"], [])
    checkpoint(folder / "after")
    (folder / "after" / os.fsdecode(b"odd\xff.json")).write_text("{}")
    polled(watched)
    assert polled(watched) == (["after"], [])
    assert caplog.text.count("its name is not UTF-8") == 1
    for pipe in ("pipe: config.json is", "pipes: config.json is", "pipe.yaml: it is"):
        assert caplog.text.count(f"{pipe} not a regular file") == 1


def test_a_folder_that_can_not_be_read_for_a_moment_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        checkpoint(folder / name)
    watched = ModelsFolder(folder, ())
    polled(watched)

    def stale(_: Path) -> NoReturn:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr("sie_server.residency.models_folder.checkpoint_files", stale)
        assert polled(watched) == polled(watched) == ([], [])
    assert polled(watched) == ([], [])


def test_an_id_that_is_not_a_string_is_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "m.yaml").write_text('sie_id: "a\\uDCFFb"\nhf_id: a/b\n')
    assert polled(ModelsFolder(folder, ())) == ([], [])
    assert caplog.text


def test_names_of_other_models_are_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint(folder / "bert")
    checkpoint(folder / "a")
    (folder / "z.toml").write_text('sie_id = "a"\nhf_id = "x/y"')
    assert polled(ModelsFolder(folder, {"bert"})) == (["a"], [])
    assert "the name 'bert' is taken" in caplog.text
    assert "the name 'a' is taken" in caplog.text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.yaml", "sie_id: me/m\nhf_id: acme/m\nhf_revision: abc\nmax_sequence_length: 128\n"),
        ("m.toml", 'sie_id = "me/m"\nhf_id = "acme/m"\nhf_revision = "abc"\nmax_sequence_length = 128\n'),
    ],
)
def test_a_file_that_names_a_model_of_the_hub(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    [entry] = ModelsFolder(folder, ()).poll().entries
    assert (entry.id, entry.repository, entry.revision, entry.max_length) == ("me/m", "acme/m", "abc", 128)


def test_a_file_that_names_a_folder_and_profiles(folder: Path, tmp_path: Path) -> None:
    (folder / "m.yaml").write_text("sie_id: m\nweights_path: ../x\nprofiles: {short: {max_seq_length: 64}}\n")
    [entry] = ModelsFolder(folder, ()).poll().entries
    assert entry.folder == tmp_path / "x"
    assert entry.profiles["short"].max_seq_length == 64


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sie_id: m\nhf_id: a/b\nadapter_path: x:Y\n", "unknown field `adapter_path`"),
        ("sie_id: m\nhf_id: a/b\nprofiles: {default: {max_batch_tokens: 1}}\n", "unknown field `max_batch_tokens`"),
        ("sie_id: m\n", "exactly one of `hf_id` and `weights_path`"),
        ("sie_id: m\nhf_id: a/b\nweights_path: x\n", "exactly one of `hf_id` and `weights_path`"),
        ("hf_id: a/b\n", "missing required field `sie_id`"),
        ("sie_id: [", "while parsing"),
    ],
)
def test_a_file_with_what_is_not_understood_is_refused_by_name(
    folder: Path, content: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "m.yaml").write_text(content)
    watched = ModelsFolder(folder, ())
    assert polled(watched) == ([], [])
    assert said in caplog.text
    (folder / "m.yaml").write_text("sie_id: m\nhf_id: a/b\n")
    polled(watched)
    assert polled(watched) == (["m"], [])


def test_a_file_that_names_another_model_now(folder: Path) -> None:
    (folder / "m.yaml").write_text("sie_id: old\nhf_id: a/b\n")
    watched = ModelsFolder(folder, ())
    assert polled(watched) == (["old"], [])
    (folder / "m.yaml").write_text("sie_id: newer\nhf_id: a/b\n")
    polled(watched)
    assert polled(watched) == (["newer"], ["old"])


# --- while serving ---------------------------------------------------------------------------------------------------


@pytest.fixture
def api(models: Path, folder: Path) -> Iterator[httpx2.Client]:
    shutil.copytree(models / "bert", folder / "first")
    settings = {"models_dir": str(folder), "preload": ("first",), "precision": "float32", "load_wait": 30.0}
    with in_process(**settings) as running, connect(running.url) as client:
        yield client


def test_models_come_change_and_go_while_others_are_asked(
    api: httpx2.Client, folder: Path, models: Path, tmp_path: Path
) -> None:
    before = scores(api, "first", QUERY, DOCUMENTS)

    def names() -> set[str]:
        # Whoever asks gets an answer all the time.
        assert scores(api, "first", QUERY, DOCUMENTS) in (before, after)
        return {model["name"] for model in api.get("/v1/models").json()["models"]}

    after = [-score for score in before]  # none yet
    shutil.copytree(models / "bert", folder / "second")
    poll(lambda: "second" in names())
    assert scores(api, "second", QUERY, DOCUMENTS) == before

    weights = load_file(folder / "first" / "model.safetensors")
    weights["classifier.bias"] = weights["classifier.bias"] + 1.0
    shutil.copytree(folder / "first", tmp_path / "other")
    save_file(weights, tmp_path / "other" / "model.safetensors")
    with in_process(model=(str(tmp_path / "other"),), precision="float32") as fresh, connect(fresh.url) as expected:
        after = scores(expected, "other", QUERY, DOCUMENTS)
    assert after != before
    (tmp_path / "other" / "model.safetensors").rename(folder / "first" / "model.safetensors")
    poll(lambda: names() and scores(api, "first", QUERY, DOCUMENTS) == after)

    shutil.rmtree(folder / "second")
    poll(lambda: "second" not in names())
    body = {"query": {"text": QUERY}, "items": [{"text": "it"}]}
    assert error(api.post("/v1/score/second", json=body))[:2] == (404, "MODEL_NOT_FOUND")


def test_a_folder_that_was_half_written_is_served_in_the_end(api: httpx2.Client, folder: Path, models: Path) -> None:
    content = (models / "bert" / "model.safetensors").read_bytes()
    (folder / "half").mkdir()
    config = json.loads((models / "bert" / "config.json").read_text())
    (folder / "half" / "config.json").write_text(json.dumps(config))
    (folder / "half" / "model.safetensors").write_bytes(content[: len(content) // 2])
    poll(lambda: api.get("/v1/models/half").status_code == 200)
    body = {"query": {"text": QUERY}, "items": [{"text": "it"}]}
    assert api.post("/v1/score/half", json=body).status_code == 502
    for file in (models / "bert").iterdir():
        shutil.copy(file, folder / "half")
    poll(lambda: api.post("/v1/score/half", json=body).status_code == 200)
    assert api.get("/v1/models/half").json()["last_error"] is None
