"""A server in a process of its own that can be killed and restarted on its port."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Self

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
SERVER = (sys.executable, "-m", "sie_server")
_START_S, _STOP_S = 120.0, 40.0


class Instance:
    """`sie-server serve` with the given flags, by default offline. Runs while used as a context manager.

    program: replaces `python -m sie_server`. within: a command that the program is an argument of, and that execs it.
    """

    def __init__(
        self,
        *flags: str,
        program: Sequence[str] = SERVER,
        within: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        environment: Mapping[str, str] = {},
    ) -> None:
        self.port = port or _free_port()
        self.url = f"http://{host}:{self.port}"
        self.log = ""
        self._command = [*within, *program, "serve", "--host", host, "--port", str(self.port), *flags]
        self._environment = {**os.environ, "HF_HUB_OFFLINE": "1", "SIE_LOG_LEVEL": "warning", **environment}
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            RuntimeError: it did not start; the message has the end of its log.
        """
        self._ready.clear()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if not self._ready.wait(_START_S) or not self.running:
            self.kill()
            raise RuntimeError(f"the server did not start: {self.log[-2000:]}")
        return self

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash or the kernel's out-of-memory killer would."""
        assert self._process is not None
        self._process.kill()
        self._forget()

    def stop(self) -> int:
        """Ask it to end, and return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._forget()

    def wait(self, seconds: float) -> int | None:
        """Its exit status, if it ends by itself within so many seconds."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    def _forget(self) -> int:
        process, reader = self._process, self._reader
        assert process is not None
        assert reader is not None
        status = process.wait()
        reader.join(5)
        if process.stderr is not None:
            process.stderr.close()
        self._process = None
        return status

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log = (self.log + line)[-100_000:]
            if re.search(r"SIE is ready at", line):
                self._ready.set()
        self._ready.set()


def end_cleanly() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does, and so stops the servers that it has started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
