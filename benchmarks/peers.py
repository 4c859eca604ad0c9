"""Candidates that run in a process of their own and take turns with the others."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Worker:
    """A process that keeps its model loaded and runs it once per line it is sent."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the peer's process ended")
        scores: list[float] = json.loads(answer)["scores"]
        return scores


def has(python: Path, *packages: str) -> bool:
    """Whether this interpreter has them."""
    program = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {packages!r})))"
    return subprocess.run([python, "-c", program], check=False).returncode == 0


@contextmanager
def worker(python: Path, script: str, *arguments: str) -> Iterator[Worker]:
    """`script` beside this file, run by another interpreter, once it says that it is ready.

    Raises:
        RuntimeError: it ended before that.
    """
    command = [python, Path(__file__).with_name(script), *arguments]
    with tempfile.TemporaryFile("w+") as log:
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True)
        try:
            assert process.stdout is not None
            if not any(line == "ready\n" for line in process.stdout):
                log.seek(0)
                raise RuntimeError(f"{script}: {log.read()[-600:].strip()}")
            yield Worker(process)
        finally:
            process.kill()
            process.communicate()
