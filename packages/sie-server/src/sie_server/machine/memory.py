"""Memory of this machine, and the part of it that this process may use."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from sie_server.machine.cgroup import SYSTEM, control_groups

# The rest of the memory is left for what is not accounted for: fragmentation, compiled kernels, long documents.
_HIGH_WATER = 0.95


_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


def machine_budget(device: torch.device) -> int:
    """Default memory budget in bytes: 95 % of the device's memory, on a CPU minus what this process uses already."""
    if device.type == "cuda":
        return int(_HIGH_WATER * torch.cuda.get_device_properties(device).total_memory)
    return int(_HIGH_WATER * usable_memory()) - resident_memory()


def present_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def usable_memory(system: Path = SYSTEM) -> int:
    """Bytes of this machine's memory, or the limit of this process's control groups if that is less."""
    return min([present_memory(), *_limits(system)])


def resident_memory() -> int:
    """Bytes of this process that are resident in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _limits(system: Path) -> Iterator[int]:
    for group, version in control_groups("memory", system):
        with suppress(OSError, ValueError):  # no such file, or it says "max"
            yield int((group / _FILES[version]).read_text())
