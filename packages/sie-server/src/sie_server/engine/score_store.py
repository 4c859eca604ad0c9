"""Scores by key in a fixed amount of memory: an 8-way set-associative table, each set of which drops the oldest."""

from collections.abc import Sequence as Items

import numpy as np
from numpy.typing import NDArray

from sie_server.engine.results import DocumentScore

Keys = NDArray[np.uint64]
Places = NDArray[np.int64]
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
        """size: in bytes, at least enough for one set."""
        sets = size // (WAYS * BYTES_PER_ENTRY)
        self._sets = np.uint64(sets)
        self.capacity = sets * WAYS
        self.entries = 0
        self.evictions = 0
        # The operating system gives memory to these as they are written. By set, or by place: 8 · set + number in it.
        self._first = np.zeros((sets, WAYS), np.uint64)  # halves of the keys
        self._second = np.zeros(self.capacity, np.uint64)
        self._used = np.zeros((sets, WAYS), np.uint64)  # moment of the last use; 0: empty
        self._entries = np.zeros(self.capacity, _ENTRY)
        self._now = 1

    def find(self, keys: Keys) -> list[DocumentScore | None]:
        """The scores of the keys `[n, 2]`; None: it has none."""
        rows, places = self._places(keys, keys[:, 0] % self._sets)
        scores: list[DocumentScore | None] = [None] * len(keys)
        if not len(rows):
            return scores
        self._used.reshape(-1)[places] = self._moments(len(places))
        for row, entry in zip(rows.tolist(), self._entries[places].tolist(), strict=True):
            score, windows, tokens, start, end, prefix, lead, truncated = entry
            span = None if (start, end) == _NO_SPAN else (start, end)
            scores[row] = DocumentScore(score, windows, tokens, truncated, span, prefix, lead)
        return scores

    def put(self, keys: Keys, scores: Items[DocumentScore]) -> None:
        """Store the scores of the keys `[n, 2]`, which are all different."""
        sets = keys[:, 0] % self._sets
        entries = _as_entries(scores)
        rows, places = self._places(keys, sets)
        new: Places = np.arange(len(keys))
        if len(rows):
            self._write(places, keys[rows], entries[rows])
            new = np.delete(new, rows)
        while len(new):
            # One key of each set at a time, which replaces the oldest entry of the set.
            rows, new = _apart(new, sets)
            used = self._used.take(sets[rows].astype(np.int64), axis=0)
            ways = used.argmin(axis=1)
            replaced = int(np.count_nonzero(used[np.arange(len(rows)), ways]))
            self.evictions += replaced
            self.entries += len(rows) - replaced
            self._write(sets[rows].astype(np.int64) * WAYS + ways, keys[rows], entries[rows])

    def _places(self, keys: Keys, sets: Keys) -> tuple[Places, Places]:
        """Find the keys in their sets: the rows of those that are there, and their places."""
        rows, ways = (self._first.take(sets.astype(np.int64), axis=0) == keys[:, :1]).nonzero()
        if len(rows):
            places = sets[rows].astype(np.int64) * WAYS + ways
            equal = (self._second[places] == keys[rows, 1]) & (self._used.reshape(-1)[places] > 0)
            rows, ways = rows[equal], places[equal]
        return rows, ways

    def _write(self, places: Places, keys: Keys, entries: NDArray[np.void]) -> None:
        self._first.reshape(-1)[places] = keys[:, 0]
        self._second[places] = keys[:, 1]
        self._entries[places] = entries
        self._used.reshape(-1)[places] = self._moments(len(places))

    def _moments(self, count: int) -> NDArray[np.uint64]:
        """The next moments, all different, so that there is always an oldest entry."""
        self._now += count
        return np.arange(self._now - count, self._now, dtype=np.uint64)


def _apart(rows: Places, sets: Keys) -> tuple[Places, Places]:
    """Divide rows into the first of each set, and the others."""
    backwards = sets[rows].tolist()[::-1]
    first = dict(zip(backwards, range(len(rows))[::-1], strict=True))
    if len(first) == len(rows):
        return rows, rows[:0]
    chosen = list(first.values())
    return rows[chosen], np.delete(rows, chosen)


def _as_entries(scores: Items[DocumentScore]) -> NDArray[np.void]:
    # By columns: three times as fast as a tuple for each entry.
    entries = np.empty(len(scores), _ENTRY)
    spans: Items[tuple[int, int] | None]
    score, windows, tokens, truncated, spans, prefix, lead = zip(*scores, strict=True)
    columns = {"score": score, "windows": windows, "tokens": tokens, "prefix": prefix, "lead": lead}
    for name, column in columns.items():
        entries[name] = column
    entries["truncated"] = truncated
    entries["start"], entries["end"] = zip(*(span or _NO_SPAN for span in spans), strict=True)
    return entries
