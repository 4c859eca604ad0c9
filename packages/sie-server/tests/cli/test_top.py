"""`sie-server top`: what it shows of a server, and what it says when there is none."""

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from itertools import islice

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from rich.console import Console

from sie_server.cli.main import app
from sie_server.cli.top.feed import Feed, RefusedError
from sie_server.cli.top.sample import Between, Sample
from sie_server.cli.top.screen import Screen
from sie_testing.serving import EMBEDDED, InProcess, connect, in_process, poll, scores


@pytest.fixture(scope="module")
def running() -> Iterator[InProcess]:
    with in_process(preload=(EMBEDDED,), workers=1) as server:
        yield server


def top(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        app.meta(["top", *arguments])
    return int(exit_.value.code or 0)


def shown(screen: Screen, width: int = 120) -> str:
    console = Console(width=width, color_system=None, file=StringIO())
    with console.capture() as captured:
        console.print(screen)
    return captured.get()


def test_one_frame_of_a_running_server(running: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert top("--url", running.url, "--once", "--interval", "0.2") == 0
    said = capsys.readouterr().out
    assert f"● ready  {running.url}" in said
    assert re.search(rf"^ {EMBEDDED} +loaded +\d+\.\d MB ", said, re.MULTILINE)
    assert "cpu × 1" in said
    assert re.search(r"queue 0 of 1 M", said)
    assert "more models load on first use" in said


def test_rates_and_percentiles_are_those_of_the_metrics(running: InProcess) -> None:
    screen, feed = Screen(running.url), Feed(running.url, 0.2, None)
    with connect(running.url) as api:
        samples = feed.connected()
        screen.add(next(samples))
        scores(api, EMBEDDED, "what is it", ["it is", "it is not", "no"])
        poll(lambda: running.engine.busy_seconds > 0)
        after = next(samples)
        while not after.total("sie_batch_size_sum", model=EMBEDDED):
            after = next(samples)
        screen.add(after)
        samples.close()
    [row] = [line.split() for line in shown(screen).splitlines() if line.startswith(f" {EMBEDDED}")]
    _, state, _, _, per_s, docs, tokens, queued, *_, avoided = row
    assert (state, queued) == ("loaded", "0")
    assert float(docs) == pytest.approx(3 * float(per_s), rel=0.1)
    assert float(tokens) > float(docs)
    assert avoided.endswith("%")


def sample(moment: float, registry: CollectorRegistry) -> Sample:
    return Sample.of(moment, {}, generate_latest(registry).decode())


def test_arithmetic_between_two_samples() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "c", ["code", "model"], registry=registry)
    histogram = Histogram("h", "h", ["model"], buckets=(1, 2, 4), registry=registry)
    counter.labels("a", "m").inc(5)
    histogram.labels("m").observe(3)
    before = sample(10, registry)
    counter.labels("a", "m").inc(4)
    counter.labels("b", 'odd"\n').inc(2)
    for value in (0.5, 1.5, 1.5, 3.5):
        histogram.labels("m").observe(value)
    between = Between(before, sample(12, registry))
    assert between.rate("c_total") == 3
    assert between.rate("c_total", model="m") == 2
    assert between.by("c_total", "code") == {"a": 2, "b": 1}
    # Of 1, 2 and 1 in the buckets up to 1, 2 and 4, half are at the middle of the second.
    assert between.quantile(0.5, "h", model="m") == 1.5
    assert between.quantile(1, "h") == 4
    assert between.quantile(0.5, "h", model="x") is None
    histogram.labels("m").observe(100)
    assert Between(before, sample(13, registry)).quantile(1, "h") == 4


def test_a_missing_server_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert top("--url", f"http://127.0.0.1:{port}", "--once") == 1
    assert f"no server at http://127.0.0.1:{port}: " in capsys.readouterr().err


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://"])
def test_invalid_urls(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert top("--url", url) == 1
    assert "is not the URL of a server" in capsys.readouterr().err


class Guarded(BaseHTTPRequestHandler):
    """Answers as its server's `status` says, unless the key is right."""

    def do_GET(self) -> None:
        right = self.headers.get("Authorization") == "Bearer right"
        self.send_response(404 if right else self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "key", "words"),
    [(401, None, "requires a key (401)"), (403, "wrong", "SIE_API_KEY"), (401, "right", "is not an SIE server")],
)
def test_a_server_that_wants_a_key(status: int, key: str | None, words: str) -> None:
    with HTTPServer(("127.0.0.1", 0), Guarded) as server:
        server.status = status  # type: ignore[attr-defined]
        threading.Thread(target=server.handle_request).start()
        with pytest.raises(RefusedError, match=re.escape(words)):
            next(Feed(f"http://127.0.0.1:{server.server_port}", 1, key).connected())


def test_it_continues_when_the_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.cli.top.feed._AGAIN_S", 0.05)
    with in_process() as first:
        feed = Feed(first.url, 0.05, None)
        said, screen = feed.samples(), Screen(first.url)
        screen.add(next(said))
        assert "● ready" in shown(screen)
    while not isinstance(lost := next(said), str):
        pass
    screen.add(lost)
    assert "● lost" in shown(screen)
    assert "; trying again" in shown(screen)
    with in_process(port=int(first.url.rsplit(":", 1)[1])):
        back = next(one for one in islice(said, 400) if not isinstance(one, str))
        screen.add(back)
        assert "● ready" in shown(screen)


@pytest.mark.parametrize("width", [80, 60, 200])
def test_it_fits_the_terminal(running: InProcess, width: int) -> None:
    screen = Screen(running.url)
    for one in islice(Feed(running.url, 0.2, None).connected(), 3):
        screen.add(one)
    assert max(map(len, shown(screen, width).splitlines())) <= width


def test_it_starts_without_torch() -> None:
    program = """
import sys
from sie_server.cli import main as cli
try:
    cli.app.meta(["top", "--once", "--url", "http://127.0.0.1:1"])
except SystemExit as exit:
    sys.exit(exit.code != 1 or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


# --- several servers -------------------------------------------------------------------------------------------------


def test_several_servers_at_once(running: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    with in_process(preload=(EMBEDDED,), workers=1) as other, connect(other.url) as api:
        scores(api, EMBEDDED, "what is it", ["it is", "no"])
        assert top("--url", running.url, "--url", other.url, "--interval", "0.2", "--once") == 0
    said = capsys.readouterr().out
    for url in (running.url, other.url):
        assert re.search(rf"^ {url} +● ready +\d+% ", said, re.MULTILINE)
    assert "2 of 2 servers" in said
    assert re.search(rf"^ {EMBEDDED} +2 of 2 ", said, re.MULTILINE)


def test_one_of_several_is_missing(running: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert top("--url", running.url, "--url", f"http://127.0.0.1:{port}", "--interval", "0.2", "--once") == 1
    said = capsys.readouterr().out
    assert re.search(rf"^ http://127.0.0.1:{port} +● lost", said, re.MULTILINE)
    assert f"no server at http://127.0.0.1:{port}" in said
    assert "1 of 2 servers" in said
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("watch-")]


def test_a_server_named_twice_is_one(running: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert top("--url", running.url, "--url", running.url, "--once", "--interval", "0.2") == 0
    assert "● ready" in capsys.readouterr().out
