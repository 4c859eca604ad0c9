"""How much memory models may take: a budget, and what a model adds to it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from sie_server.machine.cgroup import SYSTEM, control_groups

# What is left of the machine's memory is for what nobody counts: fragments, compiled products, long documents.
_HIGH_WATER = 0.95
_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


class Need(NamedTuple):
    """Bytes of a model: its weights, and the tensors of a batch that fills the token budget, where they are most."""

    weights: int
    batch: int = 0


class Memory:
    """The budget of one device, in bytes.

    Every model in memory takes its weights. Batches are of any model, but never more at once than there are device
    threads, so they take as many times the largest one.
    """

    def __init__(self, budget: int, device_threads: int) -> None:
        self.budget = budget
        self._threads = device_threads

    def excess(self, needs: Iterable[Need]) -> int:
        """Bytes by which these models are over the budget; not above zero where they fit."""
        needs = list(needs)
        batches = self._threads * max((need.batch for need in needs), default=0)
        return sum(need.weights for need in needs) + batches - self.budget


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
