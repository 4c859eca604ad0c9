"""Two servers behind nginx and HAProxy, restarted one after the other under load: calls sent, calls failed.

    .venv/bin/python reliability/rolling.py --restarts 10

The balancers are set up by the examples in deploy/, with other ports. What is sent to each: small requests and large
ones by clients that never ask twice, and calls of the Python SDK.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import httpx2
import msgspec
from soak import checkpoints

from sie_sdk import SIEClient
from sie_sdk.types import Item
from sie_testing.serving import Server, end_cleanly

_DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
_MODEL = "bert"
_QUERY, _DOCUMENTS = "w1 w2", ["w3 w4 w5", "w6", "w7 w8"]
# More than a balancer keeps of a request in memory.
_LARGE = ["w9 " * 30_000]
_PAUSE_S = 0.1
_UP_S = 60.0
_NGINX = """\
{user}pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/sie.conf;
}}
"""


class Balancer:
    """A balancer in front of the servers at these ports, in a process of its own. As a context it is running."""

    def __init__(self, name: str, command: Sequence[str], log: Path, port: int) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._command, self._log = command, log
        self._process: subprocess.Popen[bytes] | None = None

    def wait_for(self, server: Server) -> None:
        """Wait until it sends requests to a server that has just started."""

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _wait(lambda: self._answers() or self._process is None or self._process.poll() is not None)
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} did not start: {self._log.read_text()}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz").status_code == 200
        except httpx2.TransportError:
            return False


class HAProxy(Balancer):
    """Tells over its socket what it thinks of the servers."""

    def __init__(self, *given: Any, stats: Path, ports: Sequence[int]) -> None:
        super().__init__(*given)
        self._stats = stats
        self._names = dict(zip(ports, ("one", "two"), strict=True))

    def wait_for(self, server: Server) -> None:
        _wait(lambda: self._state(self._names[server.port]).startswith("UP"))

    def _state(self, name: str) -> str:
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self._stats))
            stats.sendall(b"show stat\n")
            rows = stats.makefile().read().splitlines()
        return next(row.split(",")[17] for row in rows if row.startswith(f"sie,{name},"))


def nginx(folder: Path, ports: Sequence[int]) -> Balancer:
    """As deploy/nginx/sie.conf sets it up."""
    port = _free_port()
    (folder / "sie.conf").write_text(_moved("nginx/sie.conf", ports, {"listen 8080;": f"listen 127.0.0.1:{port};"}))
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, user=user))
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    return Balancer("nginx", command, folder / "nginx.log", port)


def haproxy(folder: Path, ports: Sequence[int]) -> HAProxy:
    """As deploy/haproxy/haproxy.cfg sets it up."""
    port, stats = _free_port(), folder / "admin.sock"
    replaced = {"bind :8080": f"bind 127.0.0.1:{port}", "/run/haproxy/admin.sock": str(stats)}
    (folder / "haproxy.cfg").write_text(_moved("haproxy/haproxy.cfg", ports, replaced))
    command = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    return HAProxy("haproxy", command, folder / "haproxy.log", port, stats=stats, ports=ports)


BALANCERS = {"nginx": nginx, "haproxy": haproxy}


@dataclass
class Calls:
    """Number of calls of one client, and their failures."""

    balancer: str
    client: str
    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)


Ask = Callable[[], dict[str, float]]


@contextmanager
def raw(url: str, documents: Sequence[str]) -> Iterator[Ask]:
    """A client that sends a request once, over a connection that it keeps."""
    body = msgspec.json.encode({"query": {"text": _QUERY}, "items": [{"text": text} for text in documents]})
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    with httpx2.Client(timeout=150) as client:

        def ask() -> dict[str, float]:
            answer = client.post(f"{url}/v1/score/{_MODEL}", content=body, headers=headers)
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code} {answer.text[:60]}")
            return {entry["item_id"]: entry["score"] for entry in answer.json()["scores"]}

        yield ask


@contextmanager
def sdk(url: str, documents: Sequence[str]) -> Iterator[Ask]:
    """The Python SDK."""
    with SIEClient(url) as client:

        def ask() -> dict[str, float]:
            result = client.score(_MODEL, Item(text=_QUERY), [Item(text=text) for text in documents])
            return {entry["item_id"]: entry["score"] for entry in result["scores"]}

        yield ask


_CLIENTS = {"small": (raw, _DOCUMENTS), "large": (raw, _LARGE), "SDK": (sdk, _DOCUMENTS)}


class Load:
    """Every kind of client, at every balancer, one thread each, until the context ends."""

    def __init__(self, balancers: Sequence[Balancer], reference: Server) -> None:
        self.calls: list[Calls] = []
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        for name, (client, documents) in _CLIENTS.items():
            with raw(reference.url, documents) as ask:
                expected = ask()
            for balancer in balancers:
                calls = Calls(balancer.name, name)
                self.calls.append(calls)
                asking = (calls, client(balancer.url, documents), expected)
                self._threads.append(threading.Thread(target=self._ask, args=asking))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, each: int) -> None:
        """Wait until every client has made `each` more calls."""
        before = [calls.sent for calls in self.calls]
        _wait(lambda: all(calls.sent >= sent + each for calls, sent in zip(self.calls, before, strict=True)))

    def _ask(self, calls: Calls, client: Any, expected: dict[str, float]) -> None:
        with client as ask:
            while not self._over.wait(_PAUSE_S):
                try:
                    scores = ask()
                except Exception as error:  # whatever it is, a call was lost
                    calls.failed[f"{type(error).__name__}: {error}"] += 1
                else:
                    if scores != expected:
                        calls.failed["other scores"] += 1
                calls.sent += 1


def rolling(balancers: Sequence[str], restarts: int, notice_s: float = 5.0) -> list[Calls]:
    """Restart two servers in turns, `restarts` times in all, and return the calls made meanwhile."""
    with TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        flags = [*checkpoints(folder / "models", [_MODEL]), f"--preload={_MODEL}", f"--drain-notice-s={notice_s:g}"]
        servers = [Server(*flags) for _ in range(2)]
        for server in servers:
            running.enter_context(server)
        ports = [server.port for server in servers]
        fronts = [running.enter_context(BALANCERS[each](folder, ports)) for each in balancers]
        for front in fronts:
            with SIEClient(front.url) as client:
                next(client.watch("worker"))  # a WebSocket gets through
        with Load(fronts, servers[0]) as load:
            for turn in range(restarts):
                load.wait_for_more(3)
                server = servers[turn % 2]
                if (status := server.stop()) != 0:
                    raise RuntimeError(f"a server that was asked to stop ended with status {status}: {server.log}")
                server.start()
                for front in fronts:
                    front.wait_for(server)
            load.wait_for_more(3)
        return load.calls


def _moved(example: str, ports: Sequence[int], replaced: dict[str, str]) -> str:
    """An example with other addresses in it."""
    text = (_DEPLOY / example).read_text()
    addresses = {f"127.0.0.1:{port}": f"127.0.0.1:{moved}" for port, moved in zip((8081, 8082), ports, strict=True)}
    for said, instead in {**addresses, **replaced}.items():
        assert said in text, f"{example} has no {said!r}"
        text = text.replace(said, instead)
    return text


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _UP_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"did not come true within {_UP_S:g} s")
        time.sleep(0.05)


def main() -> int:
    """Print a table; 1 where a call failed, 2 where no balancer is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--balancers", nargs="+", choices=list(BALANCERS), default=list(BALANCERS))
    chosen = parser.parse_args()
    if missing := [name for name in chosen.balancers if shutil.which(name) is None]:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    end_cleanly()
    calls = rolling(chosen.balancers, chosen.restarts)
    print(
        f"{chosen.restarts} restarts, of two servers in turns\n\n| behind | client | sent | failed |\n|---|---|---|---|"
    )
    for each in calls:
        print(f"| {each.balancer} | {each.client} | {each.sent:,} | {each.failed.total()} |")
    for each in calls:
        for said, times in each.failed.items():
            print(f"{each.balancer}, {each.client}: {times} × {said}")
    return int(any(each.failed for each in calls))


if __name__ == "__main__":
    sys.exit(main())
