"""NUMA nodes, and the pinning of device threads to them, on made-up machines."""

import os
import threading
from pathlib import Path

import pytest
import torch

from sie_server.engine.runner import Runner
from sie_server.engine.scheduler import Scheduler
from sie_server.machine.numa import cores_in, pinned_cores, usable_nodes
from sie_server.metrics import Metrics

TWO = [frozenset({0, 1, 4, 5}), frozenset({2, 3, 6, 7})]


def machine(folder: Path, nodes: dict[str, str]) -> Path:
    for name, cores in nodes.items():
        (folder / name).mkdir()
        (folder / name / "cpulist").write_text(cores + "\n")
    (folder / "possible").write_text("0-1\n")
    return folder


@pytest.mark.parametrize(("listed", "cores"), [("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("", set())])
def test_lists_of_cores(listed: str, cores: set[int]) -> None:
    assert cores_in(listed + "\n") == cores


def test_nodes_have_the_cores_of_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 3})
    nodes = machine(tmp_path, {"node10": "4-5", "node1": "2-3", "node0": "0-1"})
    assert usable_nodes(nodes) == [{1}, {2, 3}]


@pytest.mark.parametrize("nodes", [{}, {"node0": "0-1"}, {"node0": "many"}])
def test_without_complete_nodes_all_cores_are_one(
    nodes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert usable_nodes(machine(tmp_path, nodes)) == [{0, 1, 2}]
    assert usable_nodes(tmp_path / "missing") == [{0, 1, 2}]


def test_threads_are_spread_evenly() -> None:
    assert pinned_cores(8, "none", TWO) is None
    assert pinned_cores(4, "node", TWO) == [TWO[0], TWO[0], TWO[1], TWO[1]]
    assert pinned_cores(3, "node", TWO) == [TWO[0], TWO[0], TWO[1]]
    assert pinned_cores(8, "core", TWO) == [{0}, {1}, {4}, {5}, {2}, {3}, {6}, {7}]
    assert pinned_cores(2, "core", TWO) == [{0}, {2}]
    assert pinned_cores(3, "core", [frozenset({0})]) == [{0}, {0}, {0}]


async def _pinned(cores: list[frozenset[int]]) -> list[set[int]]:
    scheduler = Scheduler(512, len(cores))
    runner = Runner(scheduler, torch.device("cpu"), Metrics(), lambda *_: None, lambda _: None, cores)
    runner.start()
    ids = [work.thread.native_id for work in runner.work() if work.thread.name.startswith("device-")]
    affinities: list[set[int]] = []
    deadline = threading.Event()
    for _ in range(200):
        affinities = [os.sched_getaffinity(id_) for id_ in ids if id_ is not None]
        if affinities == cores:
            break
        deadline.wait(0.01)
    scheduler.close()
    runner.join(5)
    return affinities


@pytest.mark.asyncio
async def test_device_threads_keep_to_their_cores() -> None:
    usable = sorted(os.sched_getaffinity(0))
    cores = [frozenset({usable[-1]}), frozenset(usable)]
    assert await _pinned(cores) == cores
    assert os.sched_getaffinity(0) == set(usable)


@pytest.mark.asyncio
async def test_a_core_that_is_gone_leaves_the_thread_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    usable = os.sched_getaffinity(0)
    assert await _pinned([frozenset({100_000})]) == [usable]
    assert "device-0 is not pinned" in caplog.text
