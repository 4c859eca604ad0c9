"""The scheduler: nothing lost, nothing twice, no batch over budget, nobody kept waiting."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sie_server.engine.request import Request
from sie_server.engine.scheduler import Scheduler
from sie_server.engine.sequence import Sequence
from sie_server.nn.heads import Together

BUDGET = 64


class Future:
    """Stands for an asyncio future: the scheduler never touches it."""

    def done(self) -> bool:
        return False


def request(lengths: list[int], model: Any = "m") -> Request:
    sequences = [Sequence(np.zeros(n, np.int32), np.zeros(n, np.int32)) for n in lengths]
    return Request(model, Together({}), sequences, Future())  # type: ignore[arg-type]


def drain(scheduler: Scheduler) -> list[list[Sequence]]:
    batches = []
    while scheduler.tokens:
        batches.append(scheduler.next_batch())
    return batches


lengths = st.lists(st.integers(1, 3 * BUDGET), min_size=1, max_size=20)


@given(st.lists(st.tuples(lengths, st.sampled_from("ab")), max_size=8))
def test_every_sequence_is_taken_once_within_budget_and_for_one_model(drawn: list[tuple[list[int], str]]) -> None:
    scheduler = Scheduler(BUDGET)
    requests = [request(each, model) for each, model in drawn]
    for each in requests:
        scheduler.add(each)
    assert scheduler.tokens == sum(each.tokens for each in requests)
    batches = drain(scheduler)
    taken = [(id(sequence.request), sequence.index) for batch in batches for sequence in batch]
    assert sorted(taken) == sorted(
        (id(each), i) for each, (sizes, _) in zip(requests, drawn, strict=True) for i in range(len(sizes))
    )
    for batch in batches:
        assert sum(map(len, batch)) <= BUDGET or len(batch) == 1
        assert len({sequence.request.model for sequence in batch if sequence.request}) == 1


@given(lengths, st.integers(0, 10), st.data())
def test_a_discarded_request_never_reaches_the_device(sizes: list[int], before: int, data: st.DataObject) -> None:
    scheduler = Scheduler(BUDGET)
    kept, gone = request([5, 5]), request(sizes)
    for each in data.draw(st.permutations([kept, gone])):
        scheduler.add(each)
    for _ in range(before):
        if scheduler.tokens:
            scheduler.next_batch()
    scheduler.discard(gone)
    scheduler.discard(gone)
    rest = [sequence.request for batch in drain(scheduler) for sequence in batch]
    assert gone not in rest
    assert not kept.pending
    assert scheduler.tokens == 0


@given(st.integers(1, 6), st.lists(st.integers(1, BUDGET // 8), min_size=1, max_size=8))
def test_a_small_request_waits_for_one_turn_of_each_large_one(giants: int, sizes: list[int]) -> None:
    """A turn is worth one budget, so that behind one giant a small request is in the next batch or the one after."""
    scheduler = Scheduler(BUDGET)
    for _ in range(giants):
        scheduler.add(request([BUDGET // 4] * 400))
    scheduler.next_batch()
    small = request(sizes)
    scheduler.add(small)
    batches = 0
    while small.pending:
        scheduler.next_batch()
        batches += 1
    assert batches <= giants + 1


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(1, 40))
def test_equal_requests_progress_equally(count: int, rounds: int) -> None:
    scheduler = Scheduler(BUDGET)
    requests = [request([7] * 1000) for _ in range(count)]
    for each in requests:
        scheduler.add(each)
    for _ in range(rounds * count):
        scheduler.next_batch()
    served = [each.tokens - sum(map(len, each.pending)) for each in requests]
    assert max(served) - min(served) <= BUDGET + 7


def test_waiting_workers_share_a_small_request() -> None:
    scheduler = Scheduler(BUDGET)
    batches: list[list[Sequence]] = []
    workers = [threading.Thread(target=lambda: batches.append(scheduler.next_batch())) for _ in range(2)]
    for worker in workers:
        worker.start()
    while scheduler._idle < 2:
        pass
    scheduler.add(request([10, 10, 10, 10]))
    for worker in workers:
        worker.join(5)
    assert [len(batch) for batch in batches] == [2, 2]


def test_an_idle_worker_starts_at_once_and_a_closed_scheduler_lets_it_go() -> None:
    scheduler = Scheduler(BUDGET)
    batches: list[list[Sequence]] = []

    def work() -> None:
        while batch := scheduler.next_batch():
            batches.append(batch)

    worker = threading.Thread(target=work)
    worker.start()
    one = request([3])
    scheduler.add(one)
    scheduler.close()
    worker.join(5)
    assert not worker.is_alive()
    assert [sequence.request for batch in batches for sequence in batch] == [one]


@pytest.mark.parametrize("workers", [2, 4])
def test_concurrent_workers_and_callers_lose_nothing(workers: int) -> None:
    scheduler = Scheduler(BUDGET)
    taken: list[Sequence] = []
    lock = threading.Lock()

    def work() -> None:
        while batch := scheduler.next_batch():
            with lock:
                taken.extend(batch)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    requests = [request([1 + (i * j) % 90 for j in range(30)]) for i in range(60)]
    callers = [
        threading.Thread(target=lambda part=part: [*map(scheduler.add, part)]) for part in np.array_split(requests, 3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    scheduler.close()
    for thread in threads:
        thread.join(10)
    assert len({id(sequence) for sequence in taken}) == len(taken) == 60 * 30
    assert scheduler.tokens == 0
