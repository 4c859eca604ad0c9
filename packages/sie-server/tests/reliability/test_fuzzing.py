"""The short forms of the fuzzers in `reliability/`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[4] / "reliability"


def run(program: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(FOLDER / program), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_whatever_comes_is_read_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="there is no atheris for this platform")
    said = run(
        "fuzz_wire.py",
        "-runs=10000",
        "-seed=1",
        f"-artifact_prefix={tmp_path}/",
        str(tmp_path / "corpus"),
        cwd=tmp_path,
    )
    assert "Done 10000 runs" in said


@pytest.mark.long
def test_answers_are_those_of_the_openapi_document(tmp_path: Path) -> None:
    said = run("fuzz_http.py", "--phases=examples,fuzzing", "--max-examples=6", "--seed=1", cwd=tmp_path)
    passed = re.search(r"(\d+) generated, (\d+) passed", said)
    assert passed is not None
    assert passed[1] == passed[2]
    assert int(passed[1]) > 30
