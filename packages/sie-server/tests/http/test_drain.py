"""Shutting down: what came in is answered, what comes then is sent elsewhere. And leaving when the device is lost."""

import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from sie_server.http.shutdown import READINESS
from sie_testing.serving import EMBEDDED, Server, connect, poll

DRAINING = {
    "code": "QUEUE_UNAVAILABLE",
    "error": "Service shutting down",
    "detail": "Server is draining requests before shutdown. Retry on another instance.",
}
HANGS, DIES = "w5", "w6"
# A server whose device hangs at one word until there is a file, and whose device thread ends at another. Loading
# `xlm-roberta` takes for ever.
PROGRAM = f"""
import os, signal, time
from pathlib import Path
from sie_server.cli import main as cli
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    from sie_server import server
    from sie_server.engine import runner

forward, load, folder = runner.forward, server.load, Path(os.environ["GATE"])

def faulty(batch):
    tokenizer = batch.model.tokenizer
    hangs, dies = (int(each.ids[1]) for each in tokenizer.encode_documents(["{HANGS}", "{DIES}"]))
    ids = {{int(each) for entry in batch.scheduled for each in entry.sequence.ids}}
    if hangs in ids:
        (folder / "hangs").touch()
        while not (folder / "open").exists():
            time.sleep(0.01)
    if dies in ids:
        raise SystemExit("no device any more")
    return forward(batch)

def slow(entry, *rest, **options):
    if entry.id == "xlm-roberta":
        (folder / "loads").touch()
        time.sleep(60)
    return load(entry, *rest, **options)

runner.forward, server.load = faulty, slow
# The server ignores a hang-up if the process that started it does, as under `nohup`.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
cli.main()
"""


class Faulty:
    """The server, and requests to it that are answered some time."""

    def __init__(self, server: Server, folder: Path, api: httpx2.Client, pool: ThreadPoolExecutor) -> None:
        self.server = server
        self.api = api
        self.folder = folder
        self._pool = pool

    def send(self, document: str, model: str = "bert") -> "Future[httpx2.Response]":
        body = {"query": {"text": "w1"}, "items": [{"text": document}]}
        return self._pool.submit(self.api.post, f"/v1/score/{model}", json=body)

    def hang(self) -> "Future[httpx2.Response]":
        """A request at which the device hangs by now."""
        future = self.send(HANGS)
        poll((self.folder / "hangs").exists)
        return future


@contextmanager
def faulty(models: Path, folder: Path, *flags: str) -> Iterator[Faulty]:
    paths = (f"--model={models / name}" for name in ("bert", "xlm-roberta"))
    flags = ("--preload=bert", "--workers=1", "--load-wait=60", *paths, *flags)
    with (
        Server(*flags, command=(sys.executable, "-c", PROGRAM), environment={"GATE": str(folder)}) as server,
        ThreadPoolExecutor(4) as pool,
        connect(server.url) as api,
    ):
        yield Faulty(server, folder, api, pool)


def assert_draining(answer: httpx2.Response) -> None:
    assert (answer.status_code, answer.json()) == (503, DRAINING)
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["x-sie-error-code"] == "QUEUE_UNAVAILABLE"
    assert answer.headers["connection"] == "close"
    assert "x-sie-server-version" in answer.headers


def test_a_draining_server_finishes_admitted_requests_and_refuses_new_ones(models: Path, tmp_path: Path) -> None:
    with faulty(models, tmp_path) as running:
        running_request = running.hang()
        waiting = running.send("w2")
        with connect(running.server.url) as kept:
            assert kept.get("/healthz").status_code == 200
            running.server.send(signal.SIGTERM)
            # The connection is there already, then it is a new one.
            poll(lambda: kept.get("/healthz").status_code == 503)
            for path in ("/healthz", "/livez", "/readyz", "/metrics", "/v1/models", "/docs", "/ws/status"):
                assert_draining(kept.get(path))
            assert_draining(
                kept.post("/v1/score/bert", json={"query": {"text": "a"}, "items": [{"text": "b" * 10**6}]})
            )
        (tmp_path / "open").touch()
        for answered in (running_request.result(), waiting.result()):
            assert (answered.status_code, answered.headers["connection"]) == (200, "close")
        assert running.server.wait(20) == 0
        assert "Traceback" not in running.server.log


def test_draining_has_an_end_and_waits_for_no_load(models: Path, tmp_path: Path) -> None:
    with faulty(models, tmp_path, "--drain-s=0.5") as running:
        hanging, held = running.hang(), running.send("w2", "xlm-roberta")
        poll((tmp_path / "loads").exists)
        running.server.send(signal.SIGTERM)
        assert_draining(held.result())
        assert_draining(hanging.result())
        (tmp_path / "open").touch()
        assert running.server.wait(20) == 0


def test_while_balancers_take_notice_every_request_is_still_answered(models: Path, tmp_path: Path) -> None:
    with faulty(models, tmp_path, "--drain-notice-s=2") as running, connect(running.server.url) as api:
        assert api.get("/readyz").headers.get("connection") is None
        running.server.send(signal.SIGTERM)
        poll(lambda: api.get("/readyz").status_code == 503)
        for path in READINESS:
            assert_draining(api.get(path))
        assert "\nsie_ready 0.0\n" in api.get("/metrics").text
        answer = running.send("w2").result()
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        poll(lambda: api.get("/healthz").status_code == 503)
        assert_draining(api.post("/v1/score/bert", json={"query": {"text": "w1"}, "items": [{"text": "w2"}]}))
        assert running.server.wait(20) == 0


def test_idle_connections_are_closed_while_others_are_answered(models: Path, tmp_path: Path) -> None:
    with faulty(models, tmp_path) as running:
        hanging = running.hang()
        address = ("127.0.0.1", httpx2.URL(running.server.url).port)
        with socket.create_connection(address) as idle, socket.create_connection(address) as used:
            used.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            used.settimeout(20)
            received = b""
            while not received.endswith(b"ok"):
                received += used.recv(65536)
            running.server.send(signal.SIGTERM)
            idle.settimeout(20)
            assert (idle.recv(1), used.recv(1)) == (b"", b"")
        assert not hanging.done()
        (tmp_path / "open").touch()
        assert hanging.result().status_code == 200
        assert running.server.wait(20) == 0


def test_nothing_outlasts_the_grace_period(models: Path, tmp_path: Path) -> None:
    """A load that nothing interrupts, a device that hangs, a client of the status that does not read."""
    with faulty(models, tmp_path, "--drain-s=1") as running:
        hanging, held = running.hang(), running.send("w2", "xlm-roberta")
        poll((tmp_path / "loads").exists)
        with socket.create_connection(("127.0.0.1", httpx2.URL(running.server.url).port)) as watcher:
            watcher.sendall(
                b"GET /ws/status HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert watcher.recv(32).startswith(b"HTTP/1.1 101")
            running.server.send(signal.SIGTERM)
            # 1 s for requests, 3 s for all the rest; what is more is the machine's.
            assert running.server.wait(1 + 3 + 10) == 0
        assert_draining(held.result())
        assert_draining(hanging.result())


def test_a_hang_up_drains_too(models: Path, tmp_path: Path) -> None:
    with faulty(models, tmp_path) as running:
        hanging = running.hang()
        running.server.send(signal.SIGHUP)
        poll(lambda: running.api.get("/healthz").status_code == 503)
        (tmp_path / "open").touch()
        assert hanging.result().status_code == 200
        assert running.server.wait(20) == 0


def test_a_cut_off_answer_and_invalid_http_log_no_traceback() -> None:
    # More than sockets keep, for somebody who does not read it.
    rows = {"items": [{"text": "a " * 250}] * 20, "params": {"output_types": ["multivector"]}}
    body = json.dumps(rows).encode()
    with Server("--preload", EMBEDDED, "--drain-s=0.5") as server:
        address = ("127.0.0.1", httpx2.URL(server.url).port)
        for _ in range(3):
            with socket.create_connection(address) as stranger:
                stranger.sendall(b"no HTTP\r\n\r\n")
                stranger.recv(64)
        with socket.create_connection(address) as unread:
            head = b"POST /v1/encode/%s HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n" % EMBEDDED.encode()
            unread.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            unread.settimeout(60)
            assert unread.recv(12) == b"HTTP/1.1 200"
            server.send(signal.SIGTERM)
            assert server.wait(20) == 0
        assert server.log.count("a response was cut off") == 1
        assert "Traceback" not in server.log
        assert "Invalid HTTP" not in server.log


def test_a_second_interrupt_ends_it_at_once(models: Path, tmp_path: Path) -> None:
    with faulty(models, tmp_path) as running:
        hanging = running.hang()
        running.server.send(signal.SIGINT)
        poll(lambda: running.api.get("/healthz").status_code == 503)
        running.server.send(signal.SIGINT)
        assert running.server.wait(20) == 128 + signal.SIGINT
        with pytest.raises(httpx2.TransportError):
            hanging.result()


def test_a_device_thread_that_hangs_is_told_from_a_process_that_was_stopped(models: Path, tmp_path: Path) -> None:
    with faulty(models, tmp_path, "--wedged-after=2") as running:
        stopped = running.hang()
        running.server.send(signal.SIGSTOP)
        time.sleep(2.5)
        (tmp_path / "open").touch()
        running.server.send(signal.SIGCONT)
        assert stopped.result().status_code == 200

        (tmp_path / "open").unlink()
        hanging = running.send(HANGS)
        assert_draining(hanging.result())
        assert running.server.wait(20) == 70
    assert "device-0 has been in one batch for 2 s: 1 sequences, 5 tokens, model bert" in running.server.log
    assert "in faulty" in running.server.log


def test_a_device_thread_that_ends_takes_the_process_along(models: Path, tmp_path: Path) -> None:
    with faulty(models, tmp_path) as running:
        assert_draining(running.send(DIES).result())
        assert running.server.wait(20) == 70
    assert "device-0 died in a batch of model 'bert'" in running.server.log
