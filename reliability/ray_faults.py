"""Replicas on Ray Serve, updated and killed under load: calls sent, failed and answered wrongly.

    .clients/ray/bin/python reliability/ray_faults.py --updates 10 --kills 5

`make test-ray` makes the environment. Small requests and large ones are sent by clients that never ask twice, and small
ones by the Python SDK. Every answer is compared with that of a server alone, bit for bit. `--haproxy` has Ray's HAProxy
in front of the replicas in place of its own proxy.
"""

import argparse
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from ray_load import Calls, SteadyLoad, wait
from soak import checkpoints

from sie_testing.ray_cluster import HAPROXY, Cluster, cluster
from sie_testing.serving import Server, end_cleanly

_MODEL = "bert"
_REPLICAS = 2
# Calls of every client before each fault, and after the last one.
_CALLS = 10


def faults(running: Cluster, updates: int, kills: int, threads: int) -> dict[str, list[Calls]]:
    """Update two replicas, then kill one of them again and again; returns the calls made meanwhile, by fault."""
    with TemporaryDirectory() as name:
        flags = checkpoints(Path(name), [_MODEL])
        argument = flags[0].removeprefix("--model=")

        def deploy(turn: int) -> None:
            # Another limit on the queue, so that every replica is replaced.
            running.deploy(models=argument, replicas=_REPLICAS, precision="float32", queue_tokens=1_000_000 + turn)

        with Server(*flags, "--preload", _MODEL, "--precision=float32") as alone:
            loads = [SteadyLoad(running.url, alone.url, threads=threads) for _ in range(2)]
        deploy(0)
        return {
            "rolling update": _under(loads[0], updates, deploy),
            "kill -9 of a replica": _under(loads[1], kills, lambda _: _kill(running)),
        }


def _under(load: SteadyLoad, times: int, fault: Callable[[int], None]) -> list[Calls]:
    with load:
        for turn in range(1, times + 1):
            load.wait_for_more(_CALLS)
            fault(turn)
        load.wait_for_more(_CALLS)
    return load.calls


def _kill(running: Cluster) -> None:
    before = running.processes()
    killed = random.choice(before)
    os.kill(killed, signal.SIGKILL)
    wait(lambda: killed not in (now := running.processes()) and len(now) == len(before))


def main() -> int:
    """Print a table; 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--threads", type=int, default=4, help="of each kind of client")
    parser.add_argument("--haproxy", action="store_true", help="Ray's HAProxy in front of the replicas")
    chosen = parser.parse_args()
    end_cleanly()
    with cluster(2 * _REPLICAS, HAPROXY if chosen.haproxy else {}) as running:
        counted = faults(running, chosen.updates, chosen.kills, chosen.threads)
    print("| fault | times | client | sent | failed | wrong |\n|---|---|---|---|---|---|")
    for (fault, calls), times in zip(counted.items(), (chosen.updates, chosen.kills), strict=True):
        for each in calls:
            print(f"| {fault} | {times} | {each.client} | {each.sent:,} | {each.failed.total()} | {each.wrong} |")
    for fault, calls in counted.items():
        for each in calls:
            for said, times in each.failed.items():
                print(f"{fault}, {each.client}: {times} × {said}")
    return int(any(each.wrong for calls in counted.values() for each in calls))


if __name__ == "__main__":
    sys.exit(main())
