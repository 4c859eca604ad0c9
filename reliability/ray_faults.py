"""Replicas on Ray Serve, updated and killed under load: calls sent, failed and answered wrongly.

    .clients/ray/bin/python reliability/ray_faults.py --updates 10 --kills 5
    .clients/ray/bin/python reliability/ray_faults.py --node      # a node is lost, with all of its processes

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


def faults(running: Cluster, updates: int, kills: int, threads: int, *, node: bool = False) -> dict[str, list[Calls]]:
    """Update two replicas, then kill one of them again and again; returns the calls made meanwhile, by fault.

    node: whether one of their nodes is lost, too.
    """
    with TemporaryDirectory() as name:
        flags = checkpoints(Path(name), [_MODEL])
        argument = flags[0].removeprefix("--model=")

        def deploy(turn: int) -> None:
            # Another limit on the queue, so that every replica is replaced.
            running.deploy(models=argument, replicas=_REPLICAS, precision="float32", queue_tokens=1_000_000 + turn)

        with Server(*flags, "--preload", _MODEL, "--precision=float32") as alone:
            loads = [SteadyLoad(running.url, alone.url, threads=threads) for _ in range(3)]
        deploy(0)
        counted = {}
        if updates:
            counted["rolling update"] = _under(loads[0], updates, deploy)
        if kills:
            counted["kill -9 of a replica"] = _under(loads[1], kills, lambda _: _kill(running))
        if node:
            counted["a node is lost"] = _under(loads[2], 1, lambda _: _lose(running))
        return counted


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


def _lose(running: Cluster) -> None:
    before = running.processes()
    running.lose_node()
    wait(lambda: len(set(running.processes()) & set(before)) < len(before) == len(running.processes()))


def main() -> int:
    """Print a table; 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--threads", type=int, default=4, help="of each kind of client")
    parser.add_argument("--node", action="store_true", help="lose a node, in place of the other faults")
    parser.add_argument("--haproxy", action="store_true", help="Ray's HAProxy in front of the replicas")
    chosen = parser.parse_args()
    end_cleanly()
    environment = HAPROXY if chosen.haproxy else {}
    if chosen.node:
        with cluster(environment=environment, workers=_REPLICAS + 1) as running:
            counted = faults(running, 0, 0, chosen.threads, node=True)
    else:
        with cluster(2 * _REPLICAS, environment) as running:
            counted = faults(running, chosen.updates, chosen.kills, chosen.threads)
    print("| fault | client | sent | failed | wrong |\n|---|---|---|---|---|")
    for fault, calls in counted.items():
        for each in calls:
            print(f"| {fault} | {each.client} | {each.sent:,} | {each.failed.total()} | {each.wrong} |")
    for fault, calls in counted.items():
        for each in calls:
            for said, times in each.failed.items():
                print(f"{fault}, {each.client}: {times} × {said}")
    return int(any(each.wrong for calls in counted.values() for each in calls))


if __name__ == "__main__":
    sys.exit(main())
