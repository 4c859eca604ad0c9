"""Candidates that run in a process of their own and take turns with the others."""

import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_START_S = 300.0


class Worker:
    """A process that keeps its model loaded and runs it once per line of input."""

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
    """Whether an interpreter has these packages."""
    program = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {packages!r})))"
    return subprocess.run([python, "-c", program], check=False).returncode == 0


@contextmanager
def worker(python: Path, script: str, *arguments: str) -> Iterator[Worker]:
    """Run `script`, of this folder, by another interpreter, from when it says that it is ready.

    Raises:
        RuntimeError: it ended before that.
    """
    command = [str(python), str(Path(__file__).with_name(script)), *arguments]
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


class Reranking:
    """The `/rerank` route of infinity-emb, with a request encoded beforehand.

    Each call opens a connection, a tenth of a millisecond: the server closes one that rests for some seconds.
    """

    def __init__(self, address: str, query: str, documents: list[str]) -> None:
        self._address = address
        self._body = json.dumps({"query": query, "documents": documents, "model": "model"})

    def __call__(self) -> list[float]:
        """The probabilities, in the order of the documents."""
        with closing(http.client.HTTPConnection(self._address, timeout=3600)) as connection:
            connection.request("POST", "/rerank", self._body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            read = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"infinity-emb answered {answer.status}: {read[:500].decode(errors='replace')}")
        results = json.loads(read)["results"]
        return [result["relevance_score"] for result in sorted(results, key=lambda result: result["index"])]


@contextmanager
def infinity(python: Path, folder: Path, dtype: str) -> Iterator[str]:
    """infinity-emb's server over the model of `folder`, run by another interpreter; its address.

    Raises:
        RuntimeError: it did not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(python), "-c", "from infinity_emb.cli import cli; cli()", "v2", "--engine", "torch"]
    command += ["--model-id", str(folder), "--served-model-name", "model", "--dtype", dtype, "--no-bettertransformer"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    settings = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **settings})
        try:
            give_up = time.monotonic() + _START_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > give_up:
                    log.seek(0)
                    raise RuntimeError(f"infinity-emb did not start: {log.read()[-600:].strip()}")
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
    except OSError:
        return False
