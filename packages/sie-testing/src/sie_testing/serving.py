"""A really running `sie-server`, on a free port of the loopback interface, as a subprocess."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
import uvicorn

from sie_server.api.app import create_app
from sie_server.catalog.catalog import Entry, shipped, with_models
from sie_server.checkpoints.load import Loader
from sie_server.cli.bench.server_process import ServerProcess
from sie_server.engine.engine import Engine
from sie_server.metrics import Metrics
from sie_server.settings import Settings

if TYPE_CHECKING:
    from sie_server.http.tracing import Traces

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
_STOP_S = 20.0


class Server(ServerProcess):
    """A server that tests and programs watch and send signals; offline, unless `environment` says otherwise."""

    def __init__(self, *flags: str, environment: Mapping[str, str] = {}, **given: Any) -> None:
        super().__init__(*flags, environment={"HF_HUB_OFFLINE": "1", **environment}, **given)

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._started.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self._started.send_signal(number)

    def wait(self, seconds: float) -> int | None:
        """The exit status, if the process ends by itself within these seconds; its log is complete then."""
        try:
            self._started.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return self._release()


def wait_for(url: str, status: int, seconds: float = 20.0) -> None:
    """Poll until `url` answers with `status`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if httpx2.get(url).status_code == status:
            return
        time.sleep(0.05)
    raise TimeoutError(f"{url} did not answer {status} in {seconds} s")


class InProcess(NamedTuple):
    """The application behind a real socket, with its engine at hand."""

    url: str
    engine: Engine


@contextmanager
def in_process(
    loader: Loader | None = None,
    *,
    ready: bool = True,
    entries: Sequence[Entry] = (),
    traces: "Traces | None" = None,
    port: int = 0,
    **settings: Any,
) -> Iterator[InProcess]:
    """Serve the application in a thread of this process, where a test can replace its parts.

    ready: whether to wait for its preloads. entries: of the catalogue, in addition to its own.
    """
    config = Settings(**settings)
    metrics = Metrics()
    known = {**shipped(), **{entry.id: entry for entry in entries}}
    engine = Engine(config, with_models(known, config.model), metrics, loader)
    app = create_app(config, engine, metrics, on_ready=lambda: None, on_failed=lambda _: None, traces=traces)
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical", timeout_graceful_shutdown=5))
    # Closing uvloop's loop may hang; a process of its own would end there, and so do the tests.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        wait_for(f"{url}/readyz", 200 if ready else 503)
        yield InProcess(url, engine)
    finally:
        server.should_exit = True
        thread.join(_STOP_S)
        listener.close()


def connect(url: str) -> httpx2.Client:
    """A client that asks for JSON and waits as long as two slow cores may need."""
    return httpx2.Client(base_url=url, timeout=60, headers={"Accept": "application/json"}, trust_env=False)


def scores(api: httpx2.Client, model: str, query: str, documents: Sequence[str], **fields: Any) -> list[float]:
    """Score of each document, in the order of `documents`."""
    body = {"query": {"text": query}, "items": [{"text": text} for text in documents], **fields}
    answer = api.post(f"/v1/score/{model}", json=body)
    assert answer.status_code == 200, answer.text
    found = {entry["item_id"]: entry["score"] for entry in answer.json()["scores"]}
    return [found[f"item-{i}"] for i in range(len(documents))]


def error(answer: httpx2.Response) -> tuple[int, str, str]:
    """Status, code and message of an error, which is JSON whatever was asked for."""
    assert answer.headers["content-type"] == "application/json", answer.text
    assert "x-sie-server-version" in answer.headers
    detail = answer.json()["detail"]
    return answer.status_code, detail["code"], detail["message"]


def metric(api: httpx2.Client, name: str, **labels: str) -> float:
    """Current value of a metric; 0 before it was first counted."""
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    series = f"{name}{{{inside}}}" if labels else name
    for line in api.get("/metrics").text.splitlines():
        if line.startswith(f"{series} "):
            return float(line.split()[-1])
    return 0.0


def poll(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come true in {seconds} s"
        time.sleep(0.01)


def end_cleanly() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that the servers that it has started are stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
