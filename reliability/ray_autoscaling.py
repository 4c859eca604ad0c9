"""Replicas on Ray Serve that follow the load: few calls, five times as many, and few again.

    .clients/ray/bin/python reliability/ray_autoscaling.py --seconds 120

`make test-ray` makes the environment. The clients never ask twice, and every answer is compared with that of a server
alone, bit for bit. A call takes about a quarter of a second of one core; what it waited for before that is in its
answer.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ray_load import Calls, SteadyLoad, wait
from rolling import Ask

from sie_testing.checkpoints import build
from sie_testing.ray_cluster import Cluster, cluster
from sie_testing.serving import Server, connect, end_cleanly

_MODEL = "bert"
_SIZE = {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 1024}
_CALL_S = 0.25
_PAUSE_S = 0.4
_CLIENTS = 5
_TARGET_S = 0.5
_TRIES, _TIMED = 8, 20
_FOLLOWS_S = 60.0


class Phase(NamedTuple):
    """A part of the run: its clients, the replicas at its end, and the calls.

    first_s, last_s: median seconds that the calls of its first and last third waited in the queue.
    """

    clients: int
    replicas: int
    first_s: float
    last_s: float
    calls: Calls


def follow(running: Cluster, seconds: float) -> list[Phase]:
    """Run the application on one to two replicas under one client, five, and one. seconds: of the second phase."""
    parts = [(1, seconds / 4, 1), (_CLIENTS, seconds, 2), (1, seconds / 4, 1)]
    phases, waited = [], list[float]()
    with TemporaryDirectory() as name:
        build(Path(name, _MODEL), "bert", **_SIZE)
        argument = f"{_MODEL}={Path(name, _MODEL)}"
        with Server(f"--model={argument}", "--preload", _MODEL, "--precision=float32", "--workers=1") as alone:
            client = partial(_noting, texts=_documents(alone.url), waited=waited)
            loads = [
                SteadyLoad(running.url, alone.url, threads=threads, pause_s=_PAUSE_S, clients={"calls": client})
                for threads, *_ in parts
            ]
        running.deploy(
            models=argument,
            precision="float32",
            min_replicas=1,
            max_replicas=2,
            target_queue_seconds=_TARGET_S,
            upscale_delay_s=2,
            downscale_delay_s=10,
        )
        for load, (threads, lasts_s, replicas) in zip(loads, parts, strict=True):
            waited.clear()
            with load:
                time.sleep(lasts_s)
                with suppress(TimeoutError):  # the report tells how many there are
                    wait(partial(_runs, running, replicas), _FOLLOWS_S)
            third = max(len(waited) // 3, 1)
            first_s, last_s = statistics.median(waited[:third]), statistics.median(waited[-third:])
            phases.append(Phase(threads, len(running.processes()), first_s, last_s, load.calls[0]))
    return phases


def _runs(running: Cluster, replicas: int) -> bool:
    return len(running.processes()) == replicas


@contextmanager
def _noting(url: str, texts: list[str], waited: list[float]) -> Iterator[Ask]:
    """A client that asks once, and notes how long each call has waited in the queue of a replica."""
    body = {"query": {"text": "w1 w2"}, "items": [{"text": text} for text in texts]}
    with connect(url) as client:

        def ask() -> dict[str, float]:
            answer = client.post(f"/v1/score/{_MODEL}", json=body)
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code} {answer.text[:60]}")
            waited.append(float(answer.headers["x-queue-time"]) / 1e3)
            return {entry["item_id"]: entry["score"] for entry in answer.json()["scores"]}

        yield ask


def _documents(url: str) -> list[str]:
    """Documents that take a server of one core `_CALL_S` seconds."""
    texts = [" ".join(f"w{(number + word) % 400}" for word in range(100)) for number in range(400)]
    quickest_s = float("inf")
    with _noting(url, texts[:_TIMED], []) as ask:
        for _ in range(_TRIES):  # something else may run at the same time
            started = time.monotonic()
            ask()
            quickest_s = min(quickest_s, time.monotonic() - started)
    return texts[: max(int(_TIMED * _CALL_S / quickest_s), 1)]


def main() -> int:
    """Print a table; 1 where a call failed or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="with five clients")
    chosen = parser.parse_args()
    end_cleanly()
    with cluster(3) as running:
        phases = follow(running, chosen.seconds)
    print("| clients | replicas at the end | s in the queue, first third | last third | sent | failed | wrong |")
    print("|---|---|---|---|---|---|---|")
    for each in phases:
        counts = f"{each.calls.sent} | {each.calls.failed.total()} | {each.calls.wrong}"
        print(f"| {each.clients} | {each.replicas} | {each.first_s:.2f} | {each.last_s:.2f} | {counts} |")
    for each in phases:
        for said, times in each.calls.failed.items():
            print(f"{each.clients} clients: {times} × {said}")
    return int(any(each.calls.failed or each.calls.wrong for each in phases))


if __name__ == "__main__":
    sys.exit(main())
