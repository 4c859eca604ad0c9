"""How many cores this process may use: on a large machine a container often has few of them."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_SYSTEM = Path("/")
# Files with the quota and the period in microseconds, of version 2 and version 1 of control groups.
_V2: tuple[str, ...] = ("cpu.max",)
_V1: tuple[str, ...] = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def usable_cores(system: Path = _SYSTEM) -> int:
    """Cores of this process's affinity, or as many as its CPU quota comes to, rounded up; the fewer of the two.

    The quota is the least of the control group's and of those it is in (cgroups(7), "CPU bandwidth control"); where a
    file of it is missing or says something else, there is none. `system`: the root of the file system.
    """
    return max(1, math.ceil(min([len(os.sched_getaffinity(0)), *_quotas(system)])))


def _quotas(system: Path) -> Iterator[float]:
    """CPU time per time that each of the control groups may take."""
    mounted = system / "sys/fs/cgroup"
    groups = ""
    with suppress(OSError):
        groups = (system / "proc/self/cgroup").read_text()
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        files = _V1 if controllers else _V2
        mounts = (mounted / controllers, mounted / "cpu") if controllers else (mounted, mounted / "unified")
        # In a container the path may be the host's, of which only the root is to be seen.
        inside = Path(path.lstrip("/"))
        for group in {mount / part for mount in mounts for part in (inside, *inside.parents)}:
            with suppress(OSError, ValueError):
                quota, period = " ".join((group / file).read_text() for file in files).split()
                if float(quota) > 0:
                    yield float(quota) / float(period)
