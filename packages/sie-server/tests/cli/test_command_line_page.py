"""docs/command-line.md: its commands run as they stand, and its tables are those of the code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from sie_server.cli.rankers.dialects import DIALECTS

PAGE = (Path(__file__).resolve().parents[4] / "docs/command-line.md").read_text()


def commands(heading: str) -> list[str]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def shell(script: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    how = {"PATH": path, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **how},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_dialect_is_listed() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| `(/\S*)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [
        (name, dialect.path, " or ".join(f"`{key}`" for key in dialect.keys)) for name, dialect in DIALECTS.items()
    ]


def test_lines_of_a_file_are_ranked_as_the_page_says(tmp_path: Path) -> None:
    first, second = commands("Rank the lines of a file")
    assert shell(first, tmp_path).splitlines()[0].split("\t")[2] == "Python is a programming language."
    assert json.loads(shell(second.splitlines()[0], tmp_path))["rank"] == 1


def test_search_results_are_ranked_as_the_page_says(tmp_path: Path) -> None:
    [script] = commands("Rank search results")
    rows = [json.loads(line) for line in shell(script, tmp_path).splitlines()]
    assert [row["ranking"][0] for row in rows] == [
        {"index": 1, "score": rows[0]["ranking"][0]["score"]},
        {"index": 0, "score": rows[1]["ranking"][0]["score"], "id": "a"},
    ]


def test_texts_are_embedded_as_the_page_says(tmp_path: Path) -> None:
    first, second = commands("Embed the texts in a file")
    assert shell(first, tmp_path) == "(2, 384)\n"
    row = json.loads(shell(second, tmp_path))
    assert (row["index"], len(row["dense"]), len(row["multivector"][0])) == (0, 384, 384)
