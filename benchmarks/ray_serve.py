"""The server behind Ray Serve next to the server alone: latency of a small request, and rate of one and two replicas.

    .clients/ray/bin/python benchmarks/ray_serve.py
    .clients/ray/bin/python benchmarks/ray_serve.py --haproxy     # Ray's HAProxy in front of the replicas

`make test-ray` makes the environment. Both compute with one thread, on the same machine as the clients, which keep
their connections. Latencies are of one request at a time, in turns of both; the overhead is the difference of the
medians. Rates are of clients that call one after the other. One replica and two are on cores of their own only where
there are enough for the clients and Ray's processes too.
"""

import argparse
import statistics
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import track

from sie_server.cli.bench.server_process import ServerProcess
from sie_server.cli.bench.workload import body, workload
from sie_server.machine.cores import usable_cores
from sie_server.machine.processor import processor_name
from sie_testing.ray_cluster import HAPROXY, cluster
from sie_testing.serving import EMBEDDED

_HEADERS = {"Accept": "application/json"}
_ROUND = 5


class Client:
    """A client that keeps its connection."""

    def __init__(self, url: str, model: str, documents: int) -> None:
        self._path = f"/v1/score/{model}"
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=120)
        self._body = body(*workload(documents, seed=documents))

    def ask(self) -> float:
        """Send the request; returns the milliseconds until its answer. Raises RuntimeError for an error."""
        started = time.perf_counter()
        self._connection.request("POST", self._path, self._body, _HEADERS)
        answer = self._connection.getresponse()
        read = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {read[:200]!r}")
        return (time.perf_counter() - started) * 1e3

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def latencies(urls: dict[str, str], model: str, documents: int, requests: int) -> dict[str, list[float]]:
    """Milliseconds of each request, by address; all addresses are asked in turns."""
    found: dict[str, list[float]] = {name: [] for name in urls}
    clients = {name: Client(url, model, documents) for name, url in urls.items()}
    for client in clients.values():
        client.ask()
    for _ in track(range(requests // _ROUND), "latency", transient=True):
        for name, client in clients.items():
            found[name] += [client.ask() for _ in range(_ROUND)]
    for client in clients.values():
        client.close()
    return found


def rate(url: str, model: str, documents: int, clients: int, seconds: float) -> float:
    """Documents per second of clients that call one after the other."""
    done: list[int] = []
    end = time.monotonic() + seconds

    def call() -> None:
        with closing(Client(url, model, documents)) as client:
            while time.monotonic() < end:
                client.ask()
                done.append(documents)

    threads = [threading.Thread(target=call) for _ in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED, help="an id of the catalogue, or NAME=FOLDER")
    parser.add_argument("--haproxy", action="store_true", help="Ray's HAProxy in front of the replicas")
    parser.add_argument("--documents", type=int, default=20, help="of a request")
    parser.add_argument("--requests", type=int, default=200, help="per address, for the latency")
    parser.add_argument("--clients", type=int, default=8, help="for the rate")
    parser.add_argument("--seconds", type=float, default=15, help="for each rate")
    given = parser.parse_args()
    front = "Ray's HAProxy" if given.haproxy else "Ray's proxy"
    arguments: dict[str, Any] = {"models": given.model, "precision": "float32", "num_cpus": 1}
    model = given.model.partition("=")[0]
    console = Console(width=100, highlight=False)
    console.print(f"{processor_name()}, {usable_cores()} cores; 1 x {given.documents} documents; {model}, float32")
    with cluster(3, HAPROXY if given.haproxy else {}) as running:  # an update has one replica more for a while
        running.deploy(replicas=1, **arguments)
        with ServerProcess(given.model, "--precision=float32", "--workers=1") as plain:
            milliseconds = latencies({"alone": plain.url, front: running.url}, model, given.documents, given.requests)
        for name, each in milliseconds.items():
            tail = statistics.quantiles(each, n=20)[-1]
            console.print(f"{name}: p50 {statistics.median(each):.1f} ms, p95 {tail:.1f} ms ({len(each)} requests)")
        over = statistics.median(milliseconds[front]) - statistics.median(milliseconds["alone"])
        console.print(f"overhead of {front} at p50: {over:.1f} ms")
        one = rate(running.url, model, given.documents, given.clients, given.seconds)
        running.deploy(replicas=2, **arguments)
        two = rate(running.url, model, given.documents, given.clients, given.seconds)
    console.print(
        f"{given.clients} clients: {one:.0f} documents/s with 1 replica, {two:.0f} with 2 ({two / one:.2f} times)"
    )


if __name__ == "__main__":
    main()
