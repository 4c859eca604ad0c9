"""How many cores this process may use: on a large machine a container often has few of them."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sie_server.machine.cgroup import SYSTEM, control_groups

# Files with the quota and the period in microseconds, by version of control groups.
_FILES = {1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), 2: ("cpu.max",)}


def usable_cores(system: Path = SYSTEM) -> int:
    """Cores of this process's affinity, or as many as its CPU quota comes to, rounded up; the fewer of the two.

    The quota is the least of the control group's and of those it is in (cgroups(7), "CPU bandwidth control"); where a
    file of it is missing or says something else, there is none. `system`: the root of the file system.
    """
    return max(1, math.ceil(min([len(os.sched_getaffinity(0)), *_quotas(system)])))


def _quotas(system: Path) -> Iterator[float]:
    """CPU time per time that each of the control groups may take."""
    for group, version in control_groups("cpu", system):
        with suppress(OSError, ValueError):
            quota, period = " ".join((group / file).read_text() for file in _FILES[version]).split()
            if float(quota) > 0:
                yield float(quota) / float(period)
