"""Downloading from a hub: the real client against a small one on the loopback interface."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints import source
from sie_server.errors import LoadClass, LoadError
from sie_testing.checkpoints import build, build_modular
from sie_testing.hub_server import COMMIT, Hub

LOAD = """
import sys
from sie_server.catalog.catalog import Entry
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    import torch
    from sie_server.checkpoints.load import load
print(load(Entry("m", repository=sys.argv[1], revision=sys.argv[2] or None), torch.device("cpu")).parameters)
"""
LOCATE = """
import sys
from sie_server.errors import LoadError
from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.source import locate
try:
    locate(Entry("m", repository=sys.argv[1], revision=sys.argv[2] or None))
except LoadError as error:
    print(error.kind, error)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    root = tmp_path_factory.mktemp("hub")
    build(root / "owner" / "reranker", "bert")
    (root / "owner" / "reranker" / "pytorch_model.bin").write_bytes(b"never asked for")
    build(root / "owner" / "pickled", "bert")
    (root / "owner" / "pickled" / "model.safetensors").rename(root / "owner" / "pickled" / "pytorch_model.bin")
    build_modular(root / "owner" / "modular", "bert-encoder", "cls")
    requests: list[str] = []
    handler = type("Handler", (Hub,), {"root": root, "requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", requests
    server.shutdown()
    server.server_close()


def load_from(endpoint: str, home: Path, repository: str, revision: str = "", **environment: str) -> tuple[str, str]:
    """What a process with an empty cache prints when it loads a repository: its output and its error stream."""
    answer = python(endpoint, home, "-c", LOAD, repository, revision, **environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout, answer.stderr


def refusal(endpoint: str, home: Path, repository: str, revision: str = "", **environment: str) -> str:
    """Why a process with an empty cache can't have a repository."""
    answer = python(endpoint, home, "-c", LOCATE, repository, revision, **environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def python(endpoint: str, home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_model_is_downloaded_once_and_then_needs_no_hub(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, requests = hub
    requests.clear()
    output, progress = load_from(endpoint, tmp_path, "owner/reranker", COMMIT)
    assert int(output) > 0
    assert "%|" in progress, "a download shows a progress bar"
    assert not any(request.endswith(".bin") for request in requests), "pickled weights are not even downloaded"

    requests.clear()
    assert load_from(endpoint, tmp_path, "owner/reranker", COMMIT)[0] == output
    assert requests == []
    assert load_from("http://127.0.0.1:1", tmp_path, "owner/reranker", COMMIT, HF_HUB_OFFLINE="1")[0] == output


def test_a_head_in_sub_folders_comes_along(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    assert int(load_from(hub[0], tmp_path, "owner/modular", COMMIT)[0]) > 0


def test_without_a_revision_the_main_branch_is_taken(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    assert int(load_from(hub[0], tmp_path, "owner/reranker")[0]) > 0


def test_pull_downloads_with_a_progress_bar_and_says_where_to(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    names = ("owner/reranker", "owner/nothing")
    added = [f"--model={name}" for name in names]
    pulled = python(hub[0], tmp_path, "-m", "sie_server", "models", "pull", *names, *added)
    assert pulled.returncode == 1, "one of the two is not there"
    folder = Path(pulled.stdout.removeprefix("owner/reranker: ").strip())
    assert folder.is_relative_to(tmp_path)
    assert (folder / "model.safetensors").is_file()
    assert "%|" in pulled.stderr
    assert "owner/nothing: owner/nothing was not found on the hub; if it is private" in pulled.stderr
    assert "Traceback" not in pulled.stderr
    shown = python(hub[0], tmp_path, "-m", "sie_server", "models", "show", "owner/reranker", added[0])
    assert str(folder) in shown.stdout


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("owner/nothing", f"NOT_FOUND owner/nothing at revision {COMMIT} was not found on the hub"),
        ("gated/model", "GATED gated/model is gated: accept its terms on the hub and set HF_TOKEN"),
        ("refused/model", "GATED the hub, http://127.0.0.1:"),
        ("owner/pickled", "CONFIG"),
        ("not a repository", "NOT_FOUND"),
    ],
)
def test_a_refusal_by_the_hub_is_reported_clearly(
    hub: tuple[str, list[str]], tmp_path: Path, repository: str, words: str
) -> None:
    assert refusal(hub[0], tmp_path, repository, COMMIT).startswith(words)


def test_an_unreachable_hub_is_a_network_error_with_advice(tmp_path: Path) -> None:
    said = refusal("http://user:secret@127.0.0.1:1", tmp_path, "owner/reranker")
    assert said.startswith("NETWORK owner/reranker is not in the local cache and the hub, http://127.0.0.1:1, is not")
    for name in ("HF_ENDPOINT", "HTTPS_PROXY", "sie-server models pull", "--model NAME=PATH"):
        assert name in said
    assert "secret" not in said
    offline = refusal("http://127.0.0.1:1", tmp_path, "owner/reranker", HF_HUB_OFFLINE="1")
    for name in ("HF_HUB_OFFLINE", "sie-server models pull", "--model NAME=PATH"):
        assert name in offline


def test_a_hub_that_never_answers_is_given_up_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the connection, and a resolver that does not answer."""
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("sie_server.checkpoints.hub._PROBE_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(LoadError, match="is not reachable") as raised:
            source.locate(Entry("m", repository="owner/reranker"))
    assert raised.value.kind is LoadClass.NETWORK
    answer = threading.Event()
    monkeypatch.setattr("sie_server.checkpoints.hub._PROBED_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait())
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    with pytest.raises(LoadError, match=r"is not reachable \(no answer within 0\.2 s\)"):
        source.locate(Entry("m", repository="owner/reranker"))
    answer.set()
