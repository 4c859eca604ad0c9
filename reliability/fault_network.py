"""Faults of connections: a network outage, clients that stop reading, clients that send half a request."""

import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from expected_scores import ExpectedScores
from fault_process import known
from fault_report import FaultReport
from outcome_counts import OutcomeCounts
from process_stats import process_stats, settled_stats
from traffic import BackgroundLoad
from workload import make_workload

from sie_server.cli.bench.server_process import SERVER
from sie_testing.serving import EMBEDDED, Server

_SERVER, _CLIENT = "10.77.0.1", "10.77.0.2"
_NOBODY = "02:00:00:00:00:99"
_CLONE_NEWNET = 0x40000000
# After so long without work, and some time for it, a server has given free memory back.
_QUIET_S = 14.0


def cut(tries: int, seconds: float = 3.0) -> FaultReport:
    """All packets between clients and server are dropped for a while, silently, in both directions."""
    report = FaultReport(f"the network is cut for {seconds:g} s under load")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        report.skipped = "needs network namespaces (root, iproute2)"
        return report
    try:
        with _wire() as wire:
            _cut(report, wire, tries, seconds)
    except subprocess.CalledProcessError as error:
        report.skipped = f"network namespaces are not permitted: {error.stderr.strip()}"
    return report


def _cut(report: FaultReport, wire: "Wire", tries: int, seconds: float) -> None:
    within = ("ip", "netns", "exec", wire.server)
    with Server("--preload", EMBEDDED, host=_SERVER, command=(*within, *SERVER)) as server:
        workloads, expected = [make_workload(EMBEDDED, 2, 40, sizes=(1, 5, 20))], ExpectedScores()

        def learn() -> None:
            wire.enter()
            expected.learn(server.url, workloads)

        learning = threading.Thread(target=learn)
        learning.start()
        learning.join()
        with BackgroundLoad(server.url, workloads, prepare=wire.enter) as flow:
            for _ in range(tries):
                time.sleep(1)
                wire.cut()
                time.sleep(seconds)
                wire.mend()
                report.tries += 1
            time.sleep(1)
        report.count(OutcomeCounts().count(flow.outcomes, expected))


class Wire:
    """Two network namespaces with a link that can be cut: packets then go to an unknown link-layer address."""

    def __init__(self, server: str, client: str) -> None:
        self.server = server
        self.client = client
        self._addresses = {name: self._mac(name) for name in (server, client)}

    def cut(self) -> None:
        self._point({self.server: _NOBODY, self.client: _NOBODY})

    def mend(self) -> None:
        self._point({self.server: self._addresses[self.client], self.client: self._addresses[self.server]})

    def enter(self) -> None:
        """Move the calling thread into the client's namespace."""
        with Path(f"/run/netns/{self.client}").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def _point(self, hardware: dict[str, str]) -> None:
        for name, other in ((self.server, _CLIENT), (self.client, _SERVER)):
            _ip("-n", name, "neigh", "replace", other, "lladdr", hardware[name], "dev", "cable", "nud", "permanent")

    def _mac(self, name: str) -> str:
        described = json.loads(_ip("-n", name, "-j", "link", "show", "cable"))
        return str(described[0]["address"])


@contextmanager
def _wire() -> Iterator[Wire]:
    server, client = (f"sie-{side}-{os.getpid()}" for side in ("server", "client"))
    with ExitStack() as stack:
        for name in (server, client):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
        _ip("-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", client)
        for name, address in ((server, _SERVER), (client, _CLIENT)):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield Wire(server, client)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def unread(tries: int, seconds: float = 3.0) -> FaultReport:
    """Clients request megabytes of vectors and read nothing: others are served, and their resources are released."""
    report = FaultReport("clients that stop reading their answer")
    with Server("--preload", EMBEDDED) as server:
        workloads, expected = known(server)
        before = settled_stats(server.pid, sockets=0, seconds=2)
        params = {"output_types": ["multivector"]}
        items = [{"text": text} for text in workloads[0].documents]
        body = json.dumps({"items": items * 2, "params": params}).encode()
        with BackgroundLoad(server.url, workloads) as flow:
            for _ in range(tries):
                connections = [_connect(server.url) for _ in range(4)]
                for connection in connections:
                    connection.sendall(_head(f"/v1/encode/{EMBEDDED}", len(body)) + body)
                time.sleep(seconds)
                for connection in connections:
                    connection.close()
                report.tries += len(connections)
        report.count(OutcomeCounts().count(flow.outcomes, expected))
        after = settled_stats(server.pid, before.sockets)
        report.expect(after.sockets <= before.sockets, "their sockets are closed")
        time.sleep(_QUIET_S)
        after = settled_stats(server.pid, before.sockets)
        report.expect(after.resident <= 1.1 * before.resident, "their memory is given back")
        report.note = f"{(after.resident - before.resident) / 2**20:+,.0f} MB resident"
    return report


def half_sent(tries: int, many: int = 40, seconds: float = 2.0) -> FaultReport:
    """Clients send half a header or half a body and pause; every other one continues and gets a right answer."""
    report = FaultReport(f"{many} clients that send half a request")
    with Server("--preload", EMBEDDED) as server:
        workloads, expected = known(server)
        before = settled_stats(server.pid, sockets=0, seconds=2)
        request = next(workloads[0].alone())
        whole = _head(request.path, len(request.body)) + request.body
        with BackgroundLoad(server.url, workloads) as flow:
            for _ in range(tries):
                connections = [_connect(server.url) for _ in range(many)]
                places = [20 if number % 4 < 2 else len(whole) - 10 for number in range(many)]
                for connection, place in zip(connections, places, strict=True):
                    connection.sendall(whole[:place])
                time.sleep(seconds)
                held = process_stats(server.pid)
                going_on = list(zip(connections, places, strict=True))[::2]
                # All of them at once: to wait for an answer here is to keep the others silent for longer than they may.
                for connection, place in going_on:
                    connection.sendall(whole[place:])
                for connection, _ in going_on:
                    fault = expected.fault(request, _answer(connection))
                    report.right += fault is None
                    report.wrong += [] if fault is None else [fault]
                for connection in connections:
                    connection.close()
                report.tries += many
        report.count(OutcomeCounts().count(flow.outcomes, expected))
        after = settled_stats(server.pid, before.sockets)
        report.expect(after.sockets <= before.sockets, "their sockets are closed")
        report.note = f"{held.sockets} sockets while they were silent, {after.sockets} after"
    return report


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect((parts.hostname, parts.port))
    return connection


def _head(path: str, length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Accept: application/json", "Connection: close"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def _answer(connection: socket.socket) -> bytes:
    """Read the body of an answer until the connection closes."""
    read = b"".join(iter(lambda: connection.recv(65536), b""))
    return read.partition(b"\r\n\r\n")[2]
