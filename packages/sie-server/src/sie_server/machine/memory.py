"""Memory of this machine, and what of it this process may take."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from sie_server.machine.cgroup import SYSTEM, control_groups

# What is left of the machine's memory is for what nobody counts: fragments, compiled products, long documents.
_HIGH_WATER = 0.95


_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


def machine_budget(device: torch.device) -> int:
    """95 % of the device's memory; on a CPU less what this process has taken already, before any model."""
    if device.type == "cuda":
        return int(_HIGH_WATER * torch.cuda.get_device_properties(device).total_memory)
    return int(_HIGH_WATER * usable_memory()) - resident_memory()


def usable_memory(system: Path = SYSTEM) -> int:
    """Bytes of this machine's memory, or as many as the control groups of this process allow; the fewer."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_limits(system)])


def resident_memory() -> int:
    """Bytes of this process that are in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _limits(system: Path) -> Iterator[int]:
    for group, version in control_groups("memory", system):
        with suppress(OSError, ValueError):  # there is no file, or it says "max"
            yield int((group / _FILES[version]).read_text())
