"""The table of scores: against a dict per set, and within its memory."""

import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sie_server.engine.results import DocumentScore
from sie_server.engine.score_store import BYTES_PER_ENTRY, WAYS, Keys, ScoreStore

Key = tuple[int, int]
SET_BYTES = WAYS * BYTES_PER_ENTRY

keys = st.tuples(st.integers(0, 30), st.sampled_from([0, 1, 2**64 - 1]))
floats = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**31 - 1)
spans = st.none() | st.tuples(counts, counts)
scores = st.builds(DocumentScore, floats, counts, counts, st.booleans(), spans, counts, counts)
steps = st.lists(
    st.one_of(
        st.lists(keys, min_size=1, max_size=20),  # to find, some of them several times
        st.dictionaries(keys, scores, min_size=1, max_size=30),  # to put
    ),
    max_size=20,
)


class Reference:
    """The same in the plainest way: of each set, the entries from the oldest to the newest."""

    def __init__(self, sets: int) -> None:
        self._sets: list[OrderedDict[Key, DocumentScore]] = [OrderedDict() for _ in range(sets)]
        self.evictions = 0

    @property
    def entries(self) -> int:
        return sum(map(len, self._sets))

    def _set(self, key: Key) -> OrderedDict[Key, DocumentScore]:
        return self._sets[key[0] % len(self._sets)]

    def find(self, wanted: list[Key]) -> list[DocumentScore | None]:
        found = [self._set(key).get(key) for key in wanted]
        for key in wanted:
            if key in self._set(key):
                self._set(key).move_to_end(key)
        return found

    def put(self, new: dict[Key, DocumentScore]) -> None:
        known = {key for entries in self._sets for key in entries}
        for key in sorted(new, key=lambda key: key not in known):  # sorted() is stable
            entries = self._set(key)
            entries[key] = new[key]
            entries.move_to_end(key)
            if len(entries) > WAYS:
                entries.popitem(last=False)
                self.evictions += 1


def array(some: list[Key]) -> Keys:
    return np.array(some, np.uint64)


@given(steps, st.integers(1, 4))
def test_the_table_is_a_dict_per_set_that_drops_the_oldest(
    drawn: list[list[Key] | dict[Key, DocumentScore]], sets: int
) -> None:
    store, reference = ScoreStore(sets * SET_BYTES), Reference(sets)
    for step in drawn:
        if isinstance(step, list):
            assert store.find(array(step)) == reference.find(step)
        else:
            store.put(array(list(step)), list(step.values()))
            reference.put(step)
        assert (store.entries, store.evictions) == (reference.entries, reference.evictions)


@given(st.floats())
def test_a_score_keeps_its_bits(score: float) -> None:
    store = ScoreStore(SET_BYTES)
    store.put(array([(1, 1)]), [DocumentScore(score, 1, 1, False, None, 0, 0)])
    [found] = store.find(array([(1, 1)]))
    assert found is not None
    assert np.float64(found.score).tobytes() == np.float64(score).tobytes()


@pytest.mark.parametrize("size", [2**16, 10**6])
def test_memory_stays_within_the_size_however_much_is_stored(size: int) -> None:
    rng = np.random.default_rng(0)
    some = [DocumentScore(0.5, 1, 1, False, None, 0, 0)] * 1000
    store = ScoreStore(size)
    assert sum(each.nbytes for each in vars(store).values() if isinstance(each, np.ndarray)) <= size
    tracemalloc.start()
    try:
        for _ in range(20):
            store.put(rng.integers(0, 2**64, (1000, 2), np.uint64), some)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (
        held < 250_000
    )  # what Python keeps of a thousand freed tuples, for the next ones; twenty times as much was put
    assert 0.9 * min(store.capacity, 20_000) < store.entries <= store.capacity
