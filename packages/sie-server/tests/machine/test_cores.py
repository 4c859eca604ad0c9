"""How many cores the engine takes, on file systems as containers see them."""

import os
from pathlib import Path

import pytest

from sie_server.engine.engine import Engine
from sie_server.machine.cores import usable_cores
from sie_server.metrics import Metrics
from sie_server.settings import Settings

V1 = "4:memory:/kubepods/pod1\n3:cpu,cpuacct:/kubepods/pod1\n1:name=systemd:/\n"
ROOT, GROUP = "sys/fs/cgroup", "kubepods/pod1"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        pytest.param("0::/\n", {f"{ROOT}/cpu.max": "200000 100000\n"}, 2, id="a namespace of its own"),
        pytest.param("0::/\n", {f"{ROOT}/cpu.max": "150000 100000\n"}, 2, id="rounded up"),
        pytest.param("0::/\n", {f"{ROOT}/cpu.max": "10000 100000\n"}, 1, id="never none"),
        pytest.param("0::/\n", {f"{ROOT}/cpu.max": "max 100000\n"}, 64, id="no quota"),
        pytest.param("0::/\n", {f"{ROOT}/cpu.max": "9900000 100000\n"}, 64, id="more than there are"),
        pytest.param("0::/\n", {f"{ROOT}/cpu.max": ""}, 64, id="an empty file"),
        pytest.param("0::/\n", {}, 64, id="no files"),
        pytest.param(None, {}, 64, id="no control groups"),
        pytest.param(
            f"0::/{GROUP}\n",
            {f"{ROOT}/{GROUP}/cpu.max": "max 100000\n", f"{ROOT}/kubepods/cpu.max": "300000 100000\n"},
            3,
            id="the quota of a group around it",
        ),
        pytest.param(f"0::/{GROUP}\n", {f"{ROOT}/cpu.max": "400000 100000\n"}, 4, id="the host's path, not visible"),
        pytest.param("0::/../other\n", {f"{ROOT}/cpu.max": "400000 100000\n"}, 4, id="a path outside of the namespace"),
        pytest.param(
            V1,
            {f"{ROOT}/cpu/{GROUP}/cpu.cfs_quota_us": "250000\n", f"{ROOT}/cpu/{GROUP}/cpu.cfs_period_us": "100000\n"},
            3,
            id="version 1",
        ),
        pytest.param(
            V1,
            {f"{ROOT}/cpu,cpuacct/cpu.cfs_quota_us": "200000\n", f"{ROOT}/cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            2,
            id="version 1 in a container",
        ),
        pytest.param(
            V1,
            {f"{ROOT}/cpu/{GROUP}/cpu.cfs_quota_us": "-1\n", f"{ROOT}/cpu/{GROUP}/cpu.cfs_period_us": "100000\n"},
            64,
            id="version 1 without a quota",
        ),
    ],
)
def test_a_container_gets_the_cores_of_its_quota(
    groups: str | None, files: dict[str, str], cores: int, tmp_path: Path
) -> None:
    known = {} if groups is None else {"proc/self/cgroup": groups}
    for name, text in {**known, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


def test_one_device_thread_per_core_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.engine.engine.usable_cores", lambda: 3)
    engine = Engine(Settings(device="cpu"), {}, Metrics())
    assert engine.scheduler.workers == 3
    chosen = Engine(Settings(device="cpu", workers=5), {}, Metrics())
    assert chosen.scheduler.workers == 5
