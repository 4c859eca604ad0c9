"""The scheduler: nothing lost, nothing twice, no batch over budget, nobody kept waiting."""

import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sie_server.engine.fair_queue import WEIGHTS
from sie_server.engine.request import Batch, Request, Scheduled
from sie_server.engine.scheduler import Scheduler
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.nn.heads import HeadGroup
from sie_server.options import Priority
from sie_server.tokenization.sequence import Sequence

BUDGET = 64


class Future:
    """Stands for an asyncio future: the scheduler never touches it."""

    def done(self) -> bool:
        return False


MODELS = {name: SimpleNamespace(id=name) for name in "mab"}


def request(lengths: list[int], model: str = "m", **params: Any) -> Request:
    sequences = [Sequence(np.zeros(n, np.int32), np.zeros(n, np.int32)) for n in lengths]
    return Request(MODELS[model], HeadGroup({}), sequences, Future(), SchedulingParams(**params))  # type: ignore[arg-type]


def served(each: Request) -> int:
    return each.tokens - sum(len(entry.sequence) for entry in each.pending)


def following(scheduler: Scheduler) -> Batch:
    batch = scheduler.next_batch()
    assert batch is not None
    return batch


def drain(scheduler: Scheduler) -> list[Batch]:
    batches = []
    while scheduler.tokens:
        batches.append(following(scheduler))
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
    taken = [(id(entry.request), entry.position) for batch in batches for entry in batch.scheduled]
    assert sorted(taken) == sorted(
        (id(each), i) for each, (sizes, _) in zip(requests, drawn, strict=True) for i in range(len(sizes))
    )
    for batch in batches:
        assert batch.tokens <= BUDGET or len(batch) == 1
        assert {entry.request.model.id for entry in batch.scheduled} == {batch.model.id}


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
    rest = [entry.request for batch in drain(scheduler) for entry in batch.scheduled]
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
    batch = following(scheduler)
    assert sum(entry.request is small for entry in batch.scheduled) == len(sizes)
    # Filled up with what long ones have, but no more than half: it would be waited for.
    assert BUDGET // 4 < batch.tokens <= max(sum(sizes), BUDGET // 2)


@given(st.integers(1, 6))
def test_a_long_request_waits_for_one_turn_of_each_other(giants: int) -> None:
    scheduler = Scheduler(BUDGET)
    for _ in range(giants):
        scheduler.add(request([BUDGET // 4] * 400))
    scheduler.next_batch()
    late = request([BUDGET // 4] * 400)
    scheduler.add(late)
    batches = [following(scheduler) for _ in range(giants + 1)]
    assert any(entry.request is late for batch in batches for entry in batch.scheduled)


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
    assert served(giant) >= (turns - 1) * BUDGET


def test_a_short_request_is_shared_by_the_workers_that_are_free_next() -> None:
    scheduler = Scheduler(BUDGET, workers=2)
    scheduler.add(request([BUDGET // 4] * 400))
    scheduler.next_batch()
    small = request([BUDGET // 5] * 6)
    scheduler.add(small)
    batches = [following(scheduler) for _ in range(2)]
    assert [[entry.request is small for entry in batch.scheduled] for batch in batches] == [[True] * 3] * 2


def test_a_short_request_over_a_budget_goes_on_in_the_next_batch() -> None:
    scheduler = Scheduler(BUDGET, workers=2)
    scheduler.add(request([BUDGET // 4] * 400))
    scheduler.next_batch()
    small = request([BUDGET // 2] * 3)
    scheduler.add(small)
    scheduler.next_batch()
    scheduler.next_batch()
    assert not small.pending


@given(st.integers(2, 5), st.integers(1, 40))
def test_equal_requests_progress_equally(count: int, rounds: int) -> None:
    scheduler = Scheduler(BUDGET)
    requests = [request([7] * 1000) for _ in range(count)]
    for each in requests:
        scheduler.add(each)
    for _ in range(rounds * count):
        scheduler.next_batch()
    progress = [*map(served, requests)]
    assert max(progress) - min(progress) <= BUDGET + 7


def test_waiting_workers_share_a_small_request() -> None:
    scheduler = Scheduler(BUDGET)
    batches: list[Batch] = []
    workers = [threading.Thread(target=lambda: batches.append(following(scheduler))) for _ in range(2)]
    for worker in workers:
        worker.start()
    while scheduler._idle < 2:
        pass
    scheduler.add(request([10, 10, 10, 10]))
    for worker in workers:
        worker.join(5)
    assert [len(batch) for batch in batches] == [2, 2]


def test_what_one_worker_computes_in_an_instant_is_not_divided() -> None:
    for seconds, sizes in ((1e-7, [4, 1]), (1.0, [2, 1, 1, 1])):
        scheduler = Scheduler(BUDGET, workers=2)
        scheduler.observe("m", 1000, seconds)
        for _ in range(2):
            scheduler.add(request([16, 16]))
        scheduler.add(request([30]))
        assert [len(batch) for batch in drain(scheduler)] == sizes
        assert all(batch.tokens <= BUDGET for batch in drain(scheduler))


def test_an_idle_worker_starts_at_once_and_a_closed_scheduler_lets_it_go() -> None:
    scheduler = Scheduler(BUDGET)
    batches: list[Batch] = []

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
    assert [entry.request for batch in batches for entry in batch.scheduled] == [one]


def test_a_brief_request_is_left_to_its_caller() -> None:
    scheduler = Scheduler(BUDGET, workers=2)
    assert not scheduler.add(request([3]), computes=True), "nothing is known of the model"
    drain(scheduler)
    scheduler.observe("m", 40, 0.001)
    assert not scheduler.add(request([20, 21]), computes=True), "too long"
    assert scheduler.add(request([3]), computes=True)
    taken = [scheduler.brief_batch(), scheduler.brief_batch()]
    assert [[entry.tokens for entry in batch.scheduled] for batch in taken if batch] == [[21], [20, 3]]
    assert scheduler.brief_batch() is None

    assert scheduler.add(request([3]), computes=True)
    scheduler.add(request([3], "a"))
    assert scheduler.brief_batch() is None, "models wait whose rates are not known"
    assert Counter(batch.model.id for batch in drain(scheduler)) == {"m": 1, "a": 1}


@pytest.mark.parametrize("workers", [2, 4])
def test_concurrent_workers_and_callers_lose_nothing(workers: int) -> None:
    scheduler = Scheduler(BUDGET)
    taken: list[Scheduled] = []
    lock = threading.Lock()

    def work() -> None:
        while batch := scheduler.next_batch():
            with lock:
                taken.extend(batch.scheduled)

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
    assert len({id(entry.sequence) for entry in taken}) == len(taken) == 60 * 30
    assert scheduler.tokens == 0


# --- clients, priorities, deadlines, memory --------------------------------------------------------------------------

PRIORITIES: tuple[Priority, ...] = get_args(Priority)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.integers(1, 2 * BUDGET), st.booleans())
def test_a_client_with_many_requests_has_no_more_than_one_with_one(counts: list[int], length: int, long: bool) -> None:
    """In turns a client may be ahead by one, and the last sequence of a turn may go over it."""
    scheduler = Scheduler(BUDGET, workers=1 if long else 500)
    requests = [
        request([length] * 200, client=str(client)) for client, count in enumerate(counts) for _ in range(count)
    ]
    for each in requests:
        scheduler.add(each)
    turn = BUDGET if long else BUDGET * 500
    progress = Counter({each.params.client: 0 for each in requests})
    while scheduler.tokens_by_sender().keys() == {(client, "normal") for client in progress}:
        assert max(progress.values()) - min(progress.values()) <= turn + length
        for each in following(scheduler).scheduled:
            progress[each.request.params.client] += len(each.sequence)


@settings(max_examples=40)
@given(st.integers(1, 100), st.integers(1, BUDGET))
def test_one_of_another_client_is_not_behind_all_of_a_flood(count: int, size: int) -> None:
    scheduler = Scheduler(BUDGET)
    for _ in range(count):
        scheduler.add(request([8] * 8, client="flood"))
    scheduler.next_batch()
    other = request([size], client="other")
    scheduler.add(other)
    for _ in range(2):
        if other.pending:
            scheduler.next_batch()
    assert not other.pending


@settings(max_examples=40)
@given(st.sampled_from([("interactive", "normal"), ("interactive", "batch"), ("normal", "batch")]), st.booleans())
def test_classes_share_by_weight_and_none_starves(pair: tuple[Priority, Priority], first: bool) -> None:
    scheduler = Scheduler(BUDGET)
    high, low = (request([8] * 4000, priority=name) for name in pair)
    for each in (high, low) if first else (low, high):
        scheduler.add(each)
    for _ in range(200):
        scheduler.next_batch()
        weight = WEIGHTS[pair[0]] / WEIGHTS[pair[1]]
        assert abs(served(high) - weight * served(low)) <= BUDGET * (weight + 1)
    assert served(low) > 0


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["normal", "batch"]), min_size=1, max_size=6), st.integers(0, 5))
def test_an_interactive_request_is_in_the_next_batch(others: list[Priority], before: int) -> None:
    scheduler = Scheduler(BUDGET)
    for priority in others:
        scheduler.add(request([8] * 400, priority=priority))
        scheduler.add(request([8] * 8, priority=priority))
    for _ in range(before):
        scheduler.next_batch()
    urgent = request([8, 8], priority="interactive")
    scheduler.add(urgent)
    scheduler.next_batch()
    assert not urgent.pending


@settings(max_examples=40)
@given(
    st.lists(st.tuples(lengths, st.sampled_from(PRIORITIES), st.sampled_from("xyz")), min_size=1, max_size=6),
    st.integers(1, 3),
)
def test_nothing_starves_while_other_work_comes_without_end(
    waiting: list[tuple[list[int], Priority, str]], workers: int
) -> None:
    scheduler = Scheduler(BUDGET, workers)
    requests = [request(sizes, priority=priority, client=client) for sizes, priority, client in waiting]
    for each in requests:
        scheduler.add(each)
    batches = 0
    while any(each.pending for each in requests):
        for priority in PRIORITIES:
            if batches % 2:
                scheduler.add(request([BUDGET // 2, 3], priority=priority, client=f"other {batches % 7}"))
        scheduler.next_batch()
        batches += 1
        # Ten clients at most have turns, and the lowest class has every 21st token.
        assert batches < 100 * (sum(each.tokens for each in requests) // BUDGET + 10) * workers


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), lengths, st.sampled_from("ab"), st.sampled_from(PRIORITIES), st.sampled_from("xy")),
        st.tuples(st.just("take")),
        st.tuples(st.just("discard"), st.integers(0, 30)),
        st.tuples(st.just("expire"), st.integers(0, 30)),
        st.tuples(st.just("shrink"), st.sampled_from("ab"), st.integers(1, 2 * BUDGET)),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(steps)
def test_whatever_happens_each_sequence_is_taken_once_or_given_up(steps: list[tuple[Any, ...]]) -> None:
    scheduler = Scheduler(BUDGET)
    requests: list[Request] = []
    batches: list[Batch] = []
    over: set[int] = set()

    def take() -> None:
        if scheduler.tokens:
            # All that waits may be late, and the next call would wait for more.
            scheduler.close()
            if (batch := scheduler.next_batch()) is None:
                return
            assert not over & {id(entry.request) for entry in batch.scheduled}
            assert batch.tokens <= limits.get(batch.model.id, BUDGET) or len(batch) == 1
            batches.append(batch)

    limits: dict[str, int] = {}
    for step, *details in steps:
        match step:
            case "add":
                sizes, model, priority, client = details
                requests.append(request(sizes, model, priority=priority, client=client))
                scheduler.add(requests[-1])
            case "take":
                take()
            case "discard" if details[0] < len(requests):
                scheduler.discard(requests[details[0]])
                over.add(id(requests[details[0]]))
            case "expire" if details[0] < len(requests):
                each = requests[details[0]]
                each.params = replace(each.params, deadline=0.0)
                over.add(id(each))
            case "shrink":
                scheduler.shrink(*details)
                limits[details[0]] = scheduler.batch_limit(details[0])
        pending = Counter({each.model.id: 0 for each in requests})
        for each in requests:
            pending[each.model.id] += sum(len(entry.sequence) for entry in each.pending)
        assert scheduler.tokens_by_model() == +pending
        assert scheduler.tokens == pending.total() == scheduler.tokens_by_sender().total()
        counted = {name: waiting.requests for name, waiting in scheduler.waiting().items()}
        assert counted == Counter(each.model.id for each in requests if each.pending)
    while scheduler.tokens:
        take()
    taken = [(id(entry.request), entry.position) for batch in batches for entry in batch.scheduled]
    assert len(set(taken)) == len(taken)
    by_request = Counter(number for number, _ in taken)
    for each in requests:
        assert by_request[id(each)] + each.dropped == len(each._results)
        assert not each.dropped or id(each) in over


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 30))
def test_the_tokens_ahead_of_a_request_are_those_served_before_it_is_through(giants: int, small: int, own: int) -> None:
    scheduler = Scheduler(BUDGET)
    for client in range(giants):
        scheduler.add(request([8] * 400, client=f"giant {client}"))
        scheduler.add(request([8] * small, client=f"small {client}"))
    scheduler.add(request([8] * 50, priority="batch"))
    scheduler.add(request([8] * 3, priority="interactive"))
    mine = [8] * (own if own > 8 else 1)
    expected = scheduler.ahead("mine", "normal", sum(mine))
    late = request(mine, client="mine")
    scheduler.add(late)
    total = 0
    while late.pending:
        total += following(scheduler).tokens
    # Lanes and classes that are not ahead have a turn each at first, and their share from then on.
    assert expected / 3 - 2 * BUDGET <= total <= 3 * expected + 4 * BUDGET
