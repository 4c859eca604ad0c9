"""Faults of the device: a batch raises, memory runs out, a device thread dies or stalls."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from fault_process import known
from fault_report import FaultReport
from outcome_counts import OutcomeCounts
from soak import instrumented
from traffic import BackgroundLoad

from sie_testing.serving import EMBEDDED

# Time in which a server whose device is broken has to report it or exit.
_NOTICE_S = 60.0
_PERMITTED = frozenset({"500 INFERENCE_ERROR", "503 RESOURCE_EXHAUSTED", "503 QUEUE_FULL"})


def raises(tries: int) -> FaultReport:
    """The forward pass of some batches raises: only their requests fail, and later ones are right."""
    report = FaultReport("a batch raises on the device")
    with instrumented("--preload", EMBEDDED) as server:
        workloads, expected = known(server)
        with BackgroundLoad(server.url, workloads, connections=8) as flow:
            for _ in range(tries):
                time.sleep(0.5)
                _device(server.url, kind="raises", times=1)
                report.tries += 1
            time.sleep(1)
        report.count(OutcomeCounts().count(flow.outcomes, expected))
        report.expect(_status(f"{server.url}/livez") == 200, "/livez is 200 afterwards")
    report.expect(set(report.errors) <= _PERMITTED, "errors name the cause")
    report.note = "a batch that raises is run again request by request"
    return report


def memory(tries: int, tokens: int = 200) -> FaultReport:
    """There is no memory for batches above some size: they are split, and all answers are right."""
    report = FaultReport(f"no memory for batches of more than {tokens} tokens")
    with instrumented("--preload", EMBEDDED) as server:
        workloads, expected = known(server)
        with BackgroundLoad(server.url, workloads, connections=8) as flow:
            for _ in range(tries):
                time.sleep(1)
                _device(server.url, kind="memory", times=20, tokens=tokens)
                report.tries += 1
            time.sleep(2)
        report.count(OutcomeCounts().count(flow.outcomes, expected))
        report.expect(_status(f"{server.url}/livez") == 200, "/livez is 200 afterwards")
    report.expect(set(report.errors) <= _PERMITTED, "errors name the cause")
    return report


def dies(tries: int) -> FaultReport:
    """A device thread ends: /livez fails or the process exits, and no request hangs."""
    return _out_of_order("a device thread dies", "dies", tries)


def stalls(tries: int) -> FaultReport:
    """A batch never finishes: as for a thread that ends."""
    return _out_of_order("a batch that never ends", "stalls", tries)


def _out_of_order(fault: str, kind: str, tries: int) -> FaultReport:
    report = FaultReport(fault)
    for _ in range(tries):
        # Shorter than the default of two minutes, which is too long for a test.
        with instrumented("--preload", EMBEDDED, "--workers=1", "--wedged-after=15") as server:
            workloads, expected = known(server, documents=10)
            with BackgroundLoad(server.url, workloads, connections=4) as flow:
                _device(server.url, kind=kind, times=1)
                report.tries += 1
                until = time.monotonic() + _NOTICE_S
                while server.running and _status(f"{server.url}/livez") == 200 and time.monotonic() < until:
                    time.sleep(0.2)
                noticed = time.monotonic() - until + _NOTICE_S
                ended = server.wait(5)
                report.expect(noticed < _NOTICE_S, f"/livez is 503, or the process has ended, within {_NOTICE_S:g} s")
                report.expect(ended is not None, "the process exits, so that its supervisor restarts it")
                if server.running:
                    server.kill()
            counts = OutcomeCounts().count(flow.outcomes, expected)
            # A closed connection is an answer of sorts; only requests that time out are lost.
            cut = sum(count for why, count in counts.lost.items() if why != "TimeoutError")
            report.note = f"noticed after {noticed:.1f} s, exit status {ended}; {cut:,} requests cut off or not let in"
            for why in [why for why in counts.lost if why != "TimeoutError"]:
                del counts.lost[why]
            report.count(counts)
    return report


def _device(url: str, **state: Any) -> None:
    urllib.request.urlopen(f"{url}/device", json.dumps(state).encode(), timeout=60).read()


def _status(url: str) -> int:
    """HTTP status of a GET request; 0 if there is no answer."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
