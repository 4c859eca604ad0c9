"""The command line, run in the process of a test or in one of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sie_server.cli import main as cli


class Ran(NamedTuple):
    """Exit status and outputs of a command."""

    status: int
    output: str
    error: str


class CommandLine:
    """Runs `sie-server`. `given` is its standard input."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._capture, self._monkeypatch = folder, capture, monkeypatch

    def __call__(self, *arguments: str | Path, given: str | bytes = b"") -> Ran:
        file = self._folder / "standard-input"
        file.write_bytes(given if isinstance(given, bytes) else given.encode())
        self._capture.readouterr()
        with file.open("rb") as opened, self._monkeypatch.context() as patch:
            patch.setattr("sys.stdin", opened)
            with pytest.raises(SystemExit) as exit_:
                cli.app.meta([*map(str, arguments)])
        assert isinstance(exit_.value.code, int)
        return Ran(exit_.value.code, *self._capture.readouterr())


def start(*arguments: str | Path, **how: object) -> "subprocess.Popen[bytes]":
    """The command in a process of its own."""
    command = [sys.executable, "-m", "sie_server", *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, **pipes)  # type: ignore[call-overload, no-any-return]


def end_when(
    process: "subprocess.Popen[bytes]", reached: Callable[[], bool], number: signal.Signals, seconds: float = 60
) -> int:
    """Send a running command a signal as soon as it has reached something, and return its exit status."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait(seconds)
