"""The programs in examples/, run as a user runs them: they print what their README says they print."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sie_testing.serving import EMBEDDED, Server

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
DECIMAL = r"\d+\.\d+|\d+e[-+]\d+"


@pytest.fixture(scope="module")
def exact_server() -> Iterator[Server]:
    """A server in float32, the same on every processor."""
    with Server("--preload", EMBEDDED, "--precision", "float32") as running:
        yield running


def run(program: str, url: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / program), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", ["two_stage_search.py", "multivector_rerank.py"])
def test_prints_the_output_in_the_readme(exact_server: Server, program: str) -> None:
    section = (EXAMPLES / "README.md").read_text().split(f"## {program}\n")[1]
    shown = section.split("```\n")[1]
    printed = run(program, exact_server.url)
    assert re.sub(DECIMAL, "#", printed) == re.sub(DECIMAL, "#", shown)
    scores = [float(score) for score in re.findall(DECIMAL, shown)]
    assert [float(score) for score in re.findall(DECIMAL, printed)] == pytest.approx(scores, abs=2e-3)


def test_reranking_puts_the_hut_that_is_asked_for_first(server: Server) -> None:
    printed = run("two_stage_search.py", server.url)
    firsts = re.findall(r"reranked\n +1\. (\S+) +\S+ +\(was +(\d+)\)", printed)
    assert [passage for passage, _ in firsts[:3]] == ["hut-04", "hut-06", "hut-11"]
    assert all(int(was) > 1 for _, was in firsts[:3])


def test_token_vectors_rank_as_the_server_does(server: Server) -> None:
    printed = run("multivector_rerank.py", server.url)
    differences = re.findall(r"client\.score gives the same ranking; scores differ by (\S+) at most", printed)
    assert len(differences) == printed.count("reranked") == 3
    assert all(float(difference) < 1e-4 for difference in differences)
