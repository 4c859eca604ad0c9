"""Faults of the process: killed under SDK clients, stopped and continued, clock jumps."""

import asyncio
import json
import random
import signal
import threading
import time
from collections.abc import Sequence
from glob import glob
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
from expected_scores import ExpectedScores
from fault_report import FaultReport
from outcome_counts import OutcomeCounts
from traffic import BackgroundLoad
from workload import Workload, make_workload

from sie_sdk import SIEClient
from sie_sdk.errors import SIEError
from sie_sdk.types import Item
from sie_testing.serving import EMBEDDED, Server

_CLIENTS = 4
_FAKETIME = sorted(glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))
# Jumps of the wall clock in seconds: an hour, a day back, a leap second, ten years.
JUMPS = (3600, -86400, 1, 315_360_000)


def known(server: Server, documents: int = 20, model: str = EMBEDDED) -> tuple[list[Workload], ExpectedScores]:
    """Make a small pool, and score its pairs alone."""
    workloads, expected = [make_workload(model, 2, documents, sizes=(1, 5, 20))], ExpectedScores()
    expected.learn(server.url, workloads)
    return workloads, expected


def killed(tries: int) -> FaultReport:
    """kill -9 while SDK clients send score requests, and restart on the same port. Every call returns right scores."""
    report = FaultReport("kill -9 under SDK clients, restart on the same port")
    calls = 0
    with Server("--preload", EMBEDDED) as server:
        workloads, expected = known(server)
        with _Callers(server.url, workloads, expected) as callers:
            for _ in range(tries):
                before = callers.right
                _wait(lambda before=before: callers.right >= before + 2 * _CLIENTS)
                server.kill()
                time.sleep(random.uniform(0, 1))
                server.start()
                report.tries += 1
            before = callers.right
            _wait(lambda: callers.right >= before + 2 * _CLIENTS)
        calls = callers.calls
        report.right, report.wrong = callers.right, callers.wrong
        for error in callers.errors:
            report.lost[error] += 1
    report.note = f"{calls:,} calls by {_CLIENTS} clients, each answered once, with the same scores before and after"
    return report


def stopped(tries: int, seconds: float = 2.0) -> FaultReport:
    """SIGSTOP under load, and SIGCONT a while later."""
    report = FaultReport(f"SIGSTOP for {seconds:g} s under load, SIGCONT")
    with Server("--preload", EMBEDDED) as server:
        workloads, expected = known(server)
        with BackgroundLoad(server.url, workloads) as flow:
            for _ in range(tries):
                time.sleep(1)
                server.send(signal.SIGSTOP)
                time.sleep(seconds)
                server.send(signal.SIGCONT)
                report.tries += 1
            time.sleep(1)
        report.count(OutcomeCounts().count(flow.outcomes, expected))
    return report


def jumped(tries: int) -> FaultReport:
    """The wall clock jumps, by libfaketime, and the monotonic clock does not: as when an operator sets the time."""
    report = FaultReport("clock jumps: an hour on, a day back, a second, ten years")
    if not _FAKETIME:
        report.skipped = "needs libfaketime (Debian: libfaketime)"
        return report
    with TemporaryDirectory() as folder:
        clock = Path(folder, "clock")
        clock.write_text("+0")
        environment = {
            "LD_PRELOAD": _FAKETIME[0],
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with Server("--preload", EMBEDDED, "--queue-tokens=3000", environment=environment) as server:
            workloads, expected = known(server)
            with BackgroundLoad(server.url, workloads, connections=8) as flow:
                for jump in islice(cycle(JUMPS), tries):
                    time.sleep(1)
                    clock.write_text(f"{jump:+}")
                    seen = _server_time(server.url) - time.time()
                    report.expect(abs(seen - jump) < 10, "the server's clock has jumped")
                    report.tries += 1
                time.sleep(1)
            report.count(OutcomeCounts().count(flow.outcomes, expected))
            waits = [one.retry_after for one in flow.outcomes if one.retry_after is not None]
            report.expect(all(0 < wait <= 60 for wait in waits), "Retry-After is between 0 and 60 s")
    return report


class _Callers:
    """SDK clients in threads, as a context: each calls `score` again and again, and compares with the expected."""

    def __init__(self, url: str, workloads: Sequence[Workload], expected: ExpectedScores) -> None:
        self.calls = self.right = 0
        self.wrong: list[str] = []
        self.errors: list[str] = []
        self._arguments = url, workloads, expected
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(_CLIENTS)]

    def __enter__(self) -> "_Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        url, workloads, expected = self._arguments
        rng = random.Random(number)
        with SIEClient(url) as client:
            while not self._stop.is_set():
                request = rng.choice(workloads).draw(rng)
                items = [Item(text=text) for text in request.documents]
                query = Item(id=request.query[:20], text=request.query)
                fault, error = None, ""
                try:
                    answer = client.score(request.model, query, items, provision_timeout_s=120)
                    # The SDK leaves out what only our server adds, and the expected reads.
                    body = json.dumps({"usage": {"input_tokens": 0}, **answer}).encode()
                    fault = expected.fault(request, body)
                except SIEError as raised:
                    error = f"{type(raised).__name__}: {raised}"
                with self._lock:
                    self.calls += 1
                    self.right += not fault and not error
                    self.wrong += [fault] if fault else []
                    self.errors += [error] if error else []


def _wait(condition: object, seconds: float = 120.0) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)


def _server_time(url: str) -> float:
    """The time of the server's clock, from the status stream."""

    async def ask() -> float:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{url}/ws/status") as socket:
            for _ in range(3):
                frame = json.loads((await socket.receive(timeout=60)).data)
            return float(frame["timestamp"])

    return asyncio.run(ask())
