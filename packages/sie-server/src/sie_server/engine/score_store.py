"""Scores by key in a fixed amount of memory: an 8-way set-associative table, each set of which drops the oldest."""

from collections.abc import Sequence as Items

import numpy as np
from numpy.typing import NDArray

from sie_server.engine.results import DocumentScore

Keys = NDArray[np.uint64]
# Entries of a set: any key may be in one of them only.
WAYS = 8
_ENTRY = np.dtype(
    [
        ("score", np.float64),
        *((name, np.int32) for name in ("windows", "tokens", "start", "end", "prefix", "lead")),
        ("truncated", np.bool_),
    ]
)
# Of an entry, its key of 16 bytes, and the time of its last use.
BYTES_PER_ENTRY = _ENTRY.itemsize + 16 + 8
_NO_SPAN = (-1, -1)


class ScoreStore:
    """A table from keys of 128 random bits to scores, which takes `size` bytes at most, and those from the start on.

    A key belongs to one set. If all entries of the set are taken, a new key replaces the one that was found or stored
    the longest time ago. Lives on the event loop.

    entries: number of keys in it. evictions: number of keys that were replaced by others.
    """

    def __init__(self, size: int) -> None:
        """size: in bytes, at least enough for one set.

        Raises:
            MemoryError: the memory is too small for it.
        """
        sets = size // (WAYS * BYTES_PER_ENTRY)
        self._sets = np.uint64(sets)
        self.capacity = sets * WAYS
        self.entries = 0
        self.evictions = 0
        # The operating system gives memory to these as they are written.
        self._keys = np.zeros((sets, WAYS, 2), np.uint64)
        self._used = np.zeros((sets, WAYS), np.uint64)  # 0: empty
        self._entries = np.zeros((sets, WAYS), _ENTRY)
        self._now = 1

    def find(self, keys: Keys) -> list[DocumentScore | None]:
        """The scores of the keys `[n, 2]`; None: it has none."""
        sets = keys[:, 0] % self._sets
        found, ways = self._ways(keys, sets)
        sets, ways = sets[found], ways[found]
        self._used[sets, ways] = self._moments(len(sets))
        scores: list[DocumentScore | None] = [None] * len(keys)
        for index, values in zip(np.flatnonzero(found).tolist(), self._entries[sets, ways].tolist(), strict=True):
            score, windows, tokens, start, end, prefix, lead, truncated = values
            span = None if (start, end) == _NO_SPAN else (start, end)
            scores[index] = DocumentScore(score, windows, tokens, truncated, span, prefix, lead)
        return scores

    def put(self, keys: Keys, scores: Items[DocumentScore]) -> None:
        """Store the scores of the keys `[n, 2]`, which are all different."""
        sets = keys[:, 0] % self._sets
        entries = np.array(
            [
                (score, windows, tokens, *(span or _NO_SPAN), prefix, lead, truncated)
                for score, windows, tokens, truncated, span, prefix, lead in scores
            ],
            _ENTRY,
        )
        found, ways = self._ways(keys, sets)
        self._write(sets[found], ways[found], keys[found], entries[found])
        new = np.flatnonzero(~found)
        # By set; of the keys of one set, no more than it has entries, and each takes another one, the oldest first.
        new = new[np.argsort(sets[new], kind="stable")]
        _, first, counts = np.unique(sets[new], return_index=True, return_counts=True)
        after = np.repeat(first + counts, counts) - np.arange(len(new)) - 1
        new, after = new[after < WAYS], after[after < WAYS]
        ways = np.argsort(self._used[sets[new]], axis=1)[np.arange(len(new)), after]
        replaced = int(np.count_nonzero(self._used[sets[new], ways]))
        self.evictions += replaced
        self.entries += len(new) - replaced
        self._write(sets[new], ways, keys[new], entries[new])

    def _ways(self, keys: Keys, sets: Keys) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Whether each key is in its set, and at which entry."""
        equal = (self._keys[sets] == keys[:, None]).all(axis=2) & (self._used[sets] > 0)
        return equal.any(axis=1), equal.argmax(axis=1)

    def _write(self, sets: Keys, ways: NDArray[np.int64], keys: Keys, entries: NDArray[np.void]) -> None:
        self._keys[sets, ways] = keys
        self._entries[sets, ways] = entries
        self._used[sets, ways] = self._moments(len(sets))

    def _moments(self, count: int) -> NDArray[np.uint64]:
        """The next moments, all different, so that there is always an oldest entry."""
        self._now += count
        return np.arange(self._now - count, self._now, dtype=np.uint64)
