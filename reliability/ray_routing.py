"""Loads of models by replicas on Ray Serve, with the router by model and with Ray's own.

    .clients/ray/bin/python reliability/ray_routing.py --models 8 --replicas 4 --held 3

`make test-ray` makes the environment. Each replica has memory for `held` models, and requests for all models are sent
in a random order, by clients that never ask twice.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx2
import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_testing.checkpoints import build
from sie_testing.ray_cluster import Cluster, cluster
from sie_testing.serving import connect, end_cleanly

ROUTERS = {
    "by model": "",
    "Ray's, by length of queue": "ray.serve._private.request_router.pow_2_router:PowerOfTwoChoicesRequestRouter",
}
_BATCH_TOKENS = 64
_CLIENTS = 4
_ROUNDS = 20
_BODY = {"query": {"text": "w1 w2"}, "items": [{"text": "w3 w4"}, {"text": "w5"}]}


class Counted(NamedTuple):
    """Requests, and loads and unloads of models for them. most: models in memory or loaded before, on one replica."""

    sent: int
    failed: int
    loads: int
    unloads: int
    most: int


def count(
    running: Cluster, folders: Sequence[Path], *, replicas: int, held: int, requests: int, router: str = ""
) -> Counted:
    """Send requests for the models in these folders to new replicas, each with memory for `held` of them."""
    loaded = load(Entry(id="model", folder=folders[0]), torch.device("cpu"), "float32")
    running.deploy(
        router=router,
        catalogue="none",
        model=[f"{folder.name}={folder}" for folder in folders],
        replicas=replicas,
        precision="float32",
        batch_tokens=_BATCH_TOKENS,
        memory_budget=int((held + 0.5) * loaded.bytes) + loaded.token_bytes * _BATCH_TOKENS,
        num_cpus=0.5,
        load_wait=60,
        drain_s=5,
    )
    names = [folder.name for folder in folders]
    asked = random.Random(0).choices(names, k=requests)

    def ask(name: str) -> bool:
        with connect(running.url) as client:
            return client.post(f"/v1/score/{name}", json=_BODY).status_code == 200

    with ThreadPoolExecutor(_CLIENTS) as clients:
        answered = [*clients.map(ask, asked)]
    metrics = _metrics(running.url, replicas)
    loads = [_values(each, "sie_model_load_duration_seconds_count") for each in metrics]
    kept = [_values(each, "sie_model_loaded") for each in metrics]
    return Counted(
        sent=requests,
        failed=answered.count(False),
        loads=int(sum(map(sum, loads))),
        unloads=int(sum(map(sum, loads)) - sum(map(sum, kept))),
        most=max(map(len, loads)),
    )


def _metrics(url: str, replicas: int) -> list[str]:
    """The metrics of every replica. Several at a time are asked for, so that no replica is always the idle one."""
    found: dict[str, str] = {}

    def ask(_: int) -> None:
        with connect(url) as client:
            answer: httpx2.Response = client.get("/metrics")
            found[answer.headers["x-sie-runtime-instance"]] = answer.text

    for _ in range(_ROUNDS):
        with ThreadPoolExecutor(4 * replicas) as clients:
            [*clients.map(ask, range(4 * replicas))]
        if len(found) == replicas:
            return [*found.values()]
    raise RuntimeError(f"{len(found)} of {replicas} replicas answered")


def _values(metrics: str, name: str) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(f"{name}{{")]


def main() -> int:
    """Print a table; 1 where a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--held", type=int, default=3, help="models that fit into the memory of a replica")
    parser.add_argument("--requests", type=int, default=200)
    chosen = parser.parse_args()
    end_cleanly()
    failed = 0
    with TemporaryDirectory() as name:
        folders = [Path(name, f"model-{number}") for number in range(chosen.models)]
        for folder in folders:
            build(folder, "bert")
        print(f"{chosen.models} models over {chosen.replicas} replicas with memory for {chosen.held} models each\n")
        print("| router | requests | failed | loads | unloads | most models of a replica |\n|---|---|---|---|---|---|")
        for router, path in ROUTERS.items():
            with cluster(chosen.replicas + 1) as running:
                counted = count(
                    running,
                    folders,
                    replicas=chosen.replicas,
                    held=chosen.held,
                    requests=chosen.requests,
                    router=path,
                )
            print("|", router, "|", " | ".join(map(str, counted)), "|", flush=True)
            failed += counted.failed
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
