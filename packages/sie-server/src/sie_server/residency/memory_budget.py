"""How much memory models may take: a budget, and what a model adds to it."""

from collections.abc import Iterable
from typing import NamedTuple


class Footprint(NamedTuple):
    """Bytes of a model: its weights, and the tensors of a batch that fills the token budget, where they are most."""

    weights: int
    batch: int = 0


class MemoryBudget:
    """The budget of one device, in bytes.

    Every model in memory takes its weights. Batches are of any model, but never more at once than there are device
    threads, so they take as many times the largest one.
    """

    def __init__(self, budget: int, device_threads: int) -> None:
        self.budget = budget
        self._threads = device_threads

    def excess(self, needs: Iterable[Footprint]) -> int:
        """Bytes by which these models are over the budget; not above zero where they fit."""
        needs = list(needs)
        batches = self._threads * max((need.batch for need in needs), default=0)
        return sum(need.weights for need in needs) + batches - self.budget
