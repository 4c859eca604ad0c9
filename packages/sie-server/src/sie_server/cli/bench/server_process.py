"""A server in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Self

SERVER = (sys.executable, "-m", "sie_server")
_START_S, _STOP_S = 600.0, 40.0
_LOG_CHARACTERS, _LAST_CHARACTERS = 1_000_000, 2000


class ServerProcess:
    """`sie-server serve` with the given flags. Runs while used as a context manager, and may be started again.

    url, port: where it listens, known once it is ready; a restart keeps the port. log: the end of its standard error.
    command: what starts the command line, in place of `python -m sie_server`. environment: variables in addition to
    those of this process; by default the server logs warnings alone.
    """

    def __init__(
        self,
        *flags: str,
        command: Sequence[str] = SERVER,
        host: str = "127.0.0.1",
        environment: Mapping[str, str] = {},
    ) -> None:
        self.url, self.port, self.log = "", 0, ""
        self._host, self._command, self._flags = host, command, flags
        self._environment = {**os.environ, "SIE_LOG_LEVEL": "warning", **environment}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._started.pid

    def start(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            RuntimeError: it did not start; the message has the end of its log.
        """
        self._process = subprocess.Popen(
            [*self._command, "serve", "--host", self._host, "--port", str(self.port), *self._flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        ready, ended = threading.Event(), threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, ready, ended), daemon=True)
        self._reader.start()
        if not ready.wait(_START_S) or ended.is_set():
            self.kill()
            raise RuntimeError(f"the server did not start: {self.log[-_LAST_CHARACTERS:].strip()}")
        return self

    def stop(self) -> int:
        """Ask the server to end, and return its exit status.

        Raises:
            RuntimeError: it had to be killed; the message has the end of its log.
        """
        if self._started.poll() is None:
            self._started.send_signal(signal.SIGTERM)
        try:
            self._started.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            last = self.log[-_LAST_CHARACTERS:].strip()
            raise RuntimeError(f"the server did not stop within {_STOP_S:g} s: {last}") from None
        return self._release()

    def kill(self) -> None:
        """End the server as a crash would."""
        self._started.kill()
        self._release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _started(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def _release(self) -> int:
        """Wait until the server has ended and its log is read, and return its exit status."""
        status = self._started.wait()
        assert self._reader is not None
        self._reader.join(5)
        assert self._started.stderr is not None
        self._started.stderr.close()
        return status

    def _read(self, process: "subprocess.Popen[str]", ready: threading.Event, ended: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log = (self.log + line)[-_LOG_CHARACTERS:]
            if match := re.search(r"SIE is ready at (http://[^\s\"]+:(\d+))", line):
                self.url, self.port = match[1], int(match[2])
                ready.set()
        if not ready.is_set():
            ended.set()
        ready.set()
