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


@given(st.integers(1, 6), st.lists(st.integers(1, BUDGET // 8), min_size=1, max_size=8), st.integers(0, 3))
def test_a_short_request_is_in_the_next_batch_however_many_long_ones_wait(
    giants: int, sizes: list[int], before: int
) -> None:
    scheduler = Scheduler(BUDGET)
    for _ in range(giants):
        scheduler.add(request([BUDGET // 4] * 400))
    for _ in range(before):
        scheduler.next_batch()
    small = request(sizes)
    scheduler.add(small)
    batch = scheduler.next_batch()
    assert sum(sequence.request is small for sequence in batch) == len(sizes)
    assert sum(map(len, batch)) > BUDGET * 3 // 4  # filled up with what long ones have


@given(st.integers(1, 6))
def test_a_long_request_waits_for_one_turn_of_each_other(giants: int) -> None:
    scheduler = Scheduler(BUDGET)
    for _ in range(giants):
        scheduler.add(request([BUDGET // 4] * 400))
    scheduler.next_batch()
    late = request([BUDGET // 4] * 400)
    scheduler.add(late)
    batches = [scheduler.next_batch() for _ in range(giants + 1)]
    assert any(sequence.request is late for batch in batches for sequence in batch)


@given(st.integers(1, 3), st.integers(1, 4))
def test_short_requests_without_end_leave_long_ones_half_of_the_turns(workers: int, short: int) -> None:
    scheduler = Scheduler(BUDGET, workers)
    giant = request([BUDGET // 4] * 1000)
    scheduler.add(giant)
    waiting = [request([BUDGET] * workers) for _ in range(short)]
    for each in waiting:
        scheduler.add(each)
    turns = 20
    for _ in range(turns * (workers + 1)):
        scheduler.next_batch()
        if not all(each.pending for each in waiting):
            waiting = [each for each in waiting if each.pending] + [request([BUDGET] * workers)]
            scheduler.add(waiting[-1])
    served = giant.tokens - sum(map(len, giant.pending))
    assert served >= (turns - 1) * BUDGET


def test_a_short_request_over_a_budget_goes_on_in_the_next_batch() -> None:
    scheduler = Scheduler(BUDGET, workers=2)
    scheduler.add(request([BUDGET // 4] * 400))
    scheduler.next_batch()
    small = request([BUDGET // 2] * 3)
    scheduler.add(small)
    scheduler.next_batch()
    scheduler.next_batch()
    assert not small.pending


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
