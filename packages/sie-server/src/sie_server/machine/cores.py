"""Number of cores that this process may use, which in a container may be few of the machine's."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sie_server.machine.cgroup import SYSTEM, control_groups

# Files that hold the quota and the period in microseconds, by version of control groups.
_FILES = {1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), 2: ("cpu.max",)}


def usable_cores(system: Path = SYSTEM) -> int:
    """Number of cores in this process's affinity, or its CPU quota rounded up if that is less.

    The quota is the lowest of the control group and the groups around it (cgroups(7), "CPU bandwidth control"); a file
    that is missing or holds no number sets none. `system`: the root of the file system.
    """
    return max(1, math.ceil(min([len(os.sched_getaffinity(0)), *_quotas(system)])))


def _quotas(system: Path) -> Iterator[float]:
    """Yield the CPU time per second of each control group with a quota."""
    for group, version in control_groups("cpu", system):
        with suppress(OSError, ValueError):
            quota, period = " ".join((group / file).read_text() for file in _FILES[version]).split()
            if float(quota) > 0:
                yield float(quota) / float(period)
