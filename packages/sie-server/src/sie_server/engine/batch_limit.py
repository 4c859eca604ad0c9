"""The number of tokens of a model that fit into memory at once, learned from batches that did not fit."""

# Batches after which the limit is raised, and the fraction of the budget by which it is raised: one in `_STEP`.
_BATCHES = 64
_STEP = 16


class BatchLimit:
    """Maximum number of tokens in a batch of one model.

    Halved when a batch did not fit, and raised by a sixteenth of the budget after 64 batches that did: the memory that
    was missing may be free again, and trying costs no more than running one batch twice.
    """

    def __init__(self, budget: int) -> None:
        self.tokens = budget
        self._budget = budget
        self._batches = 0

    def reduce(self, tokens: int) -> None:
        """Lower the limit to half of a batch of `tokens` tokens that did not fit."""
        self.tokens = max(min(self.tokens, tokens // 2), 1)
        self._batches = 0

    def count_batch(self) -> None:
        """Count a batch that was formed under the limit."""
        self._batches += 1
        if self._batches % _BATCHES == 0:
            self.tokens = min(self.tokens + max(self._budget // _STEP, 1), self._budget)
