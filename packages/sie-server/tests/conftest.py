"""Fixtures shared by the server's tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# All else is imported where it is used: the process that hands out the tests to others imports this file too.
if TYPE_CHECKING:
    import httpx2

    from sie_testing.serving import Server

# Read when Haystack is imported, by the programs of the documentation too.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
# Else every server that tests start would compile all modules of its own.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` run where there is one."""
    import torch

    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Spare each garbage collection, such as after a model is unloaded, the objects of transformers and the tests.

    Worker processes share the cores: threads of torch that wait for each other's would take as much time as they save.
    """
    import torch

    gc.freeze()
    torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


@pytest.fixture(scope="session", autouse=True)
def _rates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Measured rates are kept apart from those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIE_RATES_DIR", str(tmp_path_factory.mktemp("rates")))
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small checkpoints: `bert`, `xlm-roberta`, `bert-encoder`."""
    from sie_testing.checkpoints import build

    folder = tmp_path_factory.mktemp("models")
    for name in ("bert", "xlm-roberta", "bert-encoder"):
        build(folder / name, name)
    return folder


@pytest.fixture(scope="session")
def server(models: Path) -> "Iterator[Server]":
    """A running server with the embedded default and the small checkpoints."""
    from sie_testing.serving import EMBEDDED, Server

    flags = [f"--model={path}" for path in sorted(models.iterdir())]
    with Server("--preload", EMBEDDED, *flags) as running:
        yield running


@pytest.fixture(scope="session")
def word_pieces() -> Path:
    """The folder of the installed weights, with BERT's vocabulary and tokenizer."""
    from sie_server.catalog.catalog import shipped
    from sie_server.checkpoints.source import on_this_machine
    from sie_testing.serving import EMBEDDED

    folder = on_this_machine(shipped()[EMBEDDED])
    assert folder is not None
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """Real tokenizers and judged collections, where they are at hand."""
    if not SHARED.is_dir():
        pytest.skip(f"no test data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def api(server: "Server") -> "Iterator[httpx2.Client]":
    """A client of the running server."""
    from sie_testing.serving import connect

    with connect(server.url) as client:
        yield client


@pytest.fixture(scope="session")
def exact(models: Path) -> "Iterator[httpx2.Client]":
    """A client of a server that computes in float32, to compare numbers with transformers'."""
    from sie_testing.serving import connect, in_process

    paths = tuple(map(str, sorted(models.iterdir())))
    with in_process(model=paths, precision="float32") as running, connect(running.url) as client:
        yield client
