"""How many tokens of a model fit into memory at once, as learned when more did not."""

# Batches that have to pass before more is tried, and by which part of the budget that is more.
_PATIENCE = 64
_STEP = 16


class BatchLimit:
    """Most tokens in a batch of one model.

    Halved when a batch did not fit, and raised by a sixteenth of the budget after 64 batches that did: what took the
    memory may have gone, and finding out that it has not costs one batch that is run twice.
    """

    def __init__(self, budget: int) -> None:
        self.tokens = budget
        self._budget = budget
        self._batches = 0

    def reduce(self, tokens: int) -> None:
        """A batch of so many did not fit."""
        self.tokens = max(min(self.tokens, tokens // 2), 1)
        self._batches = 0

    def count_batch(self) -> None:
        """A batch is taken."""
        self._batches += 1
        if self._batches % _PATIENCE == 0:
            self.tokens = min(self.tokens + max(self._budget // _STEP, 1), self._budget)
