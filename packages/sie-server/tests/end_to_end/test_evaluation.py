"""docs/evaluate.md, as a user follows it: a dataset made from text at hand, evaluated in a process of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "evaluate.md").read_text()


def run(*command: object, folder: Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    said = run(
        sys.executable, "-W", "error", ROOT / "examples" / "judged_python_docs.py", "python-docs", 12, folder=folder
    )
    assert re.fullmatch(r"python-docs: \d{3} documents and 12 queries, each with one relevant document\n", said)
    return folder / "python-docs"


def test_the_commands_of_the_page_work(dataset: Path) -> None:
    [block] = [each for each in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "judged_python_docs" in each]
    [line] = [each for each in block.splitlines() if "sie-server eval" in each]
    [flags] = re.findall(r"sie-server eval (.*)", line)
    words = [
        word.replace("/tmp/python-docs-eval", "out").replace("/tmp/python-docs", str(dataset)) for word in flags.split()
    ]
    words[words.index("--depth") + 1] = "8"
    shown = run(sys.executable, "-m", "sie_server", "eval", *words, folder=dataset.parent)
    assert "python-docs: 12 queries" in shown
    found = json.loads((dataset.parent / "out" / "results.json").read_text())
    first, model, perfect = found["rows"]
    assert first["means"]["R@10"] == model["means"]["R@10"] == perfect["means"]["R@10"]  # of only 8 candidates
    assert perfect["means"]["nDCG@10"]["value"] >= model["means"]["nDCG@10"]["value"] > 0
    assert model["speed"]["documents"] == found["dataset"]["candidates"]
    assert (dataset.parent / "out" / "report.html").stat().st_size > 10_000


def test_the_page_names_the_files_and_the_exit_statuses() -> None:
    from sie_server.cli.eval.report.page import REPORT, RESULTS
    from sie_server.cli.exit_status import BAD_INPUT, FAILED, INTERRUPTED, UNAVAILABLE

    for status in (0, FAILED, BAD_INPUT, UNAVAILABLE, INTERRUPTED):
        assert f"\n| {status} | " in PAGE
    for name in (REPORT, RESULTS, "*.scores.jsonl"):
        assert f"\n| `{name}` | " in PAGE
