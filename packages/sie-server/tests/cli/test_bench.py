"""`sie-server bench`: what it reports, and the arithmetic behind it. Nothing here is about how fast anything is."""

import json
from pathlib import Path

import pytest
import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.hf_config import read_config
from sie_server.checkpoints.load import load
from sie_server.cli import main as cli
from sie_server.cli.bench.arithmetic import operations, peak
from sie_server.cli.bench.through_server import percentiles
from sie_server.cli.bench.workload import padded, workload
from sie_testing.serving import EMBEDDED

CPU = torch.device("cpu")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.app.meta(["bench", *arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where sentence-transformers is not installed."""
    monkeypatch.setattr("sie_server.cli.bench.peer.find_spec", lambda _: None)


@pytest.mark.usefixtures("alone")
def test_every_figure_is_there_for_machines(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--documents", "5", "--rounds", "2", "--requests", "4"]
    configuration = tmp_path / "sie.toml"
    configuration.write_text('port = 1\nprecision = "float32"\n')  # written for `serve`
    assert run(f"mine={models / 'bert'}", *sizes, "--json", "--config", str(configuration)) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["model"], figures["precision"], figures["device"]) == ("mine", "float32", "cpu")
    assert figures["documents"] == 5
    assert 5 * 32 <= figures["tokens"] <= figures["padded_tokens"]
    assert (figures["peer"], figures["peer_skipped"]) == (None, "it is not installed")
    assert set(figures["in_process"]) == {"documents_per_s", "tokens_per_s", "share_of_peak"}
    for summary in (*figures["in_process"].values(), figures["served"]["documents_per_s"]):
        assert 0 < summary["low"] <= summary["median"] <= summary["high"]
    latency, overhead = figures["served"]["latency_ms"], figures["served"]["overhead_ms"]
    assert 0 < overhead["p50"] <= latency["p50"] <= latency["p95"] <= latency["p99"]
    together = figures["served"]["together_ms"]
    assert 0 < together["p50"] <= together["p95"] <= together["p99"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["./nowhere"], "no such folder"),
        (["BAAI/bge-reranker-v2-m4"], "Did you mean 'BAAI/bge-reranker-v2-m3'"),
        ([EMBEDDED, "--device", "tpu"], "tpu"),
    ],
)
def test_a_failed_measurement_is_reported_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 1
    assert words in capsys.readouterr().err


def test_operations_are_those_of_the_products(models: Path) -> None:
    folder = models / "bert"
    model = load(Entry("bert", folder=folder), CPU, "float32")
    config, lengths = read_config(Checkpoint(folder)), [3, 10]
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.layers
    products = 2 * 13 * layers * (4 * hidden**2 + 2 * hidden * inner)
    attention = 4 * layers * hidden * (3**2 + 10**2)
    # Biases and norms are counted as weights: nine vectors of a layer, one of them wider.
    vectors = 2 * 13 * layers * (9 * hidden + inner)
    assert operations(model, config, lengths) == products + attention + vectors


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_a_peak_is_measured(dtype: torch.dtype) -> None:
    assert peak(dtype, CPU, seconds=0.0) > 0


def test_padding_and_percentiles_are_those_of_their_definitions() -> None:
    assert padded([1, 5, 3, 2], batch=2) == 2 * 5 + 2 * 2
    assert padded([7]) == 7
    assert percentiles([i / 1e3 for i in range(1, 101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_the_workload_is_the_same_every_time() -> None:
    query, documents = workload(50)
    assert (query, documents) == workload(50)
    assert all(20 <= len(document.split()) <= 399 for document in documents)
