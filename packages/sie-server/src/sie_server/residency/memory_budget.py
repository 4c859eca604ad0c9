"""The memory budget, and the footprint that a model has in it."""

from collections.abc import Iterable
from typing import NamedTuple


class Footprint(NamedTuple):
    """Bytes of a model: of its weights, and at the peak of a batch that fills the token budget."""

    weights: int
    batch: int = 0


class MemoryBudget:
    """Memory budget of one device, in bytes.

    It must hold the weights of every model in memory, and one batch for each device thread; since any of them may be
    for any model, all count as the largest one.
    """

    def __init__(self, budget: int, device_threads: int) -> None:
        self.budget = budget
        self._threads = device_threads

    def excess(self, footprints: Iterable[Footprint]) -> int:
        """Bytes by which these models exceed the budget; zero or less if they fit."""
        footprints = list(footprints)
        batches = self._threads * max((footprint.batch for footprint in footprints), default=0)
        return sum(footprint.weights for footprint in footprints) + batches - self.budget
