"""More work than can be done: what is refused, deadlines, clients that go, memory that runs out, a lost device."""

import json
import math
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.engine.admission import Admission, estimate
from sie_server.engine.batch_limit import BatchLimit
from sie_server.engine.request import Batch, Scheduled
from sie_server.engine.runner import Work
from sie_server.engine.scheduler import Scheduler
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.engine.watchdog import Watchdog
from sie_server.errors import Code, SIEError
from sie_server.models.bert import Bert
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_server.options import Precision, Priority
from sie_server.tokenization.sequence import Sequence
from sie_testing.checkpoints import text
from sie_testing.serving import InProcess, connect, error, in_process, metric, poll, scores


class Device:
    """An encoder that computes while `open` is set, and fails for want of memory on more tokens than fit."""

    def __init__(self, encoder: Bert) -> None:
        self.head = encoder.head
        self.open = threading.Event()
        self.open.set()
        self.fits = 10**9
        self.failure: Callable[[], Exception] = torch.OutOfMemoryError
        self.tokens: list[int] = []
        self.threads: list[str] = []
        self._encoder = encoder

    def __call__(self, packed: Packed) -> torch.Tensor:
        self.tokens.append(len(packed.ids))
        self.threads.append(threading.current_thread().name)
        assert self.open.wait(30)
        if len(packed.ids) > self.fits:
            raise self.failure()
        hidden: torch.Tensor = self._encoder(packed)
        return hidden


class Overloaded:
    """A server with one device thread and batches of 64 tokens, in front of such a device."""

    def __init__(self, running: InProcess, device: Device, api: httpx2.Client, pool: ThreadPoolExecutor) -> None:
        self.device = device
        self.api = api
        self.url = urlsplit(running.url)
        self.engine = running.engine
        self.scheduler = running.engine.scheduler
        self._pool = pool

    def send(self, *documents: str, **headers: str) -> "Future[httpx2.Response]":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._pool.submit(self.api.post, "/v1/score/bert", json=body(*documents), headers=named)

    def stall(self) -> "Future[httpx2.Response]":
        """Occupy the device; what comes next waits until it is open again."""
        self.device.open.clear()
        seen = len(self.device.tokens)
        future = self.send("w2")
        poll(lambda: len(self.device.tokens) > seen)
        return future


def body(*documents: str) -> dict[str, Any]:
    return {"query": {"text": "w1"}, "items": [{"text": document} for document in documents]}


@pytest.fixture
def overloaded(models: Path) -> Iterator[Overloaded]:
    devices: list[Device] = []

    def loader(entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
        model = load(entry, device, precision)
        devices.append(Device(model.encoder))
        return replace(model, encoder=devices[0], few_sizes=False)  # type: ignore[arg-type] # a stand-in

    limits = {"workers": 1, "batch_tokens": 64, "queue_tokens": 1000, "model_queue_tokens": 400}
    with (
        in_process(loader, model=(str(models / "bert"),), preload=("bert",), precision="float32", **limits) as running,
        ThreadPoolExecutor(8) as pool,
        connect(running.url) as api,
    ):
        yield Overloaded(running, devices[0], api, pool)
        devices[0].open.set()


# --- what is refused -------------------------------------------------------------------------------------------------


@contextmanager
def waiting(tokens: dict[str, int], client: str = "a") -> Iterator[Admission]:
    """An admission of 1,000 tokens, 500 for a model, where so many wait already; a token takes 10 ms."""
    admission = Admission(Scheduler(64), 1000, 500)
    with ExitStack() as stack:
        for model_id, count in tokens.items():
            admission.observe(model_id, 100, 1.0)
            stack.enter_context(admission.tokenizing(model_id, SchedulingParams(client), count))
        yield admission


def refused(admission: Admission, model: str, tokens: int, client: str = "a") -> SIEError:
    with pytest.raises(SIEError) as raised, admission.tokenizing(model, SchedulingParams(client), tokens):
        pass
    assert raised.value.code == Code.QUEUE_FULL
    return raised.value


def admitted(admission: Admission, model: str, tokens: int, client: str = "a", priority: Priority = "normal") -> bool:
    with admission.tokenizing(model, SchedulingParams(client, priority), tokens):
        return True


def test_seconds_of_queued_work() -> None:
    with waiting({"fast": 300, "slow": 100}) as admission:
        assert admission.queue_seconds() == {"fast": pytest.approx(3.0), "slow": pytest.approx(1.0)}
        for _ in range(200):  # until only this rate counts
            admission.observe("slow", 10, 1.0)
        assert admission.queue_seconds()["slow"] == pytest.approx(10.0)
    assert admission.queue_seconds() == {}


def test_a_model_without_a_rate_has_that_of_the_others() -> None:
    admission, sender = Admission(Scheduler(64), 1000, 1000), SchedulingParams("a")
    with admission.tokenizing("new", sender, 50):
        assert admission.queue_seconds() == {"new": 0.0}
        admission.observe("old", 100, 2.0)
        assert admission.queue_seconds() == {"new": pytest.approx(1.0)}


def test_the_queue_is_bounded_for_each_model_and_for_all() -> None:
    with waiting({}) as idle:
        assert admitted(idle, "m", 10**6)
    with waiting({"m": 400}) as full:
        assert admitted(full, "m", 100)
        error = refused(full, "m", 250)
        assert "400 tokens are waiting and this request has about 250; the limit for model 'm' is 500" in error.message
        assert error.retry_after == 2, "150 tokens too many, at 100 per second"
        assert admitted(full, "n", 500), "another model has a queue of its own"
    with waiting({"m": 400, "n": 500}) as full:
        error = refused(full, "o", 400)
        assert "the limit for all models is 1000" in error.message
        assert error.retry_after == 3, "300 tokens too many, at 100 per second"


def test_one_client_can_not_lock_out_others() -> None:
    with waiting({"m": 10_000}, client="greedy") as flooded:
        error = refused(flooded, "m", 10, "greedy")
        assert error.retry_after == 60
        assert admitted(flooded, "m", 250, "modest")
        error = refused(flooded, "m", 251, "modest")
        assert error.retry_after == 60, "as long as it takes until the queue has room for more than a share"
        assert admitted(flooded, "n", 500, "modest")
        assert admitted(flooded, "m", 250, "greedy", "interactive"), "a class of priority has a share of its own"
        with flooded.tokenizing("m", SchedulingParams("modest"), 200):
            assert refused(flooded, "m", 60, "modest").retry_after == 1, "ten of its own, and as many of the other's"
            assert admitted(flooded, "m", 166, "third")


def test_what_is_larger_than_the_queue_comes_in_when_next_to_nothing_waits() -> None:
    with waiting({"m": 62}, client="other") as quiet:
        assert admitted(quiet, "m", 10**6)
        assert refused(quiet, "m", 10**6, "other").retry_after == 1
    with waiting({"m": 463}, client="other") as busy:
        assert refused(busy, "m", 10**6).retry_after == 4, "338 tokens over an eighth, at 100 per second"


senders = st.tuples(st.sampled_from("abcd"), st.sampled_from(get_args(Priority)))


@given(st.lists(st.tuples(senders, st.integers(1, 3000), st.booleans()), max_size=40))
def test_an_even_share_is_always_there_and_what_waits_is_bounded(
    requests: list[tuple[tuple[str, Priority], int, bool]],
) -> None:
    admission = Admission(Scheduler(64), 1000, 1000)
    held: list[tuple[tuple[str, Priority], int, ExitStack]] = []
    for sender, tokens, leaves in requests:
        if leaves and held:
            held.pop(0)[2].close()
        counts = Counter({each: 0 for each, *_ in held})
        for each, count, _ in held:
            counts[each] += count
        others = len(counts.keys() - {sender})
        stack = ExitStack()
        try:
            stack.enter_context(admission.tokenizing("m", SchedulingParams(*sender), tokens))
        except SIEError:
            assert counts[sender] + tokens > 1000 // (others + 1)
            assert counts.total() + tokens > 1000
            continue
        held.append((sender, tokens, stack))
        assert counts[sender] + tokens <= 1000 or not counts[sender]
        # As much as it holds, an even share for each that came, and one that was let in when next to nothing waited.
        most = 1000 * (1 + sum(1 / n for n in range(1, 13)))
        assert counts.total() + tokens <= most + max(count for _, count, _ in held)


def test_a_model_waits_for_others_on_its_device() -> None:
    with waiting({"fast": 450, "slow": 300}) as shared:
        shared.observe("slow", 10, 10.0)
        backlog_s = 450 / 100 + 300 * (0.9 + 10.0) / (90 + 10)
        assert refused(shared, "fast", 95).retry_after == math.ceil((450 + 95 - 500) / 450 * backlog_s)


def test_text_counts_before_it_is_tokenized() -> None:
    assert estimate(["x" * 400, "y" * 40], "q" * 8) == 116
    assert estimate([[1, 2, 3], [4]]) == 6
    with waiting({"m": 450}) as full:
        refused(full, "m", 60)
    assert admitted(full, "m", 60)


def test_a_full_queue_says_when_to_come_back(overloaded: Overloaded) -> None:
    first = overloaded.stall()
    second = overloaded.send(*[text(20, seed=n) for n in range(10)], Authorization="Bearer a")
    poll(lambda: overloaded.scheduler.tokens > 200)
    answer = overloaded.send(*[text(40, seed=n) for n in range(10)]).result()
    assert error(answer)[:2] == (503, "QUEUE_FULL")
    assert "limit for model 'bert' is 400" in error(answer)[2]
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    overloaded.device.open.set()
    assert [first.result().status_code, second.result().status_code] == [200, 200]


# --- deadlines and priorities ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Request-Timeout", "soon"),
        ("X-Request-Timeout", "-1"),
        ("X-Request-Timeout", "inf"),
        ("X-Request-Timeout", ""),
        ("X-SIE-Priority", "urgent"),
    ],
)
def test_terms_that_mean_nothing_are_refused(overloaded: Overloaded, header: str, value: str) -> None:
    answer = overloaded.api.post("/v1/score/bert", json=body("w2"), headers={header: value})
    assert error(answer)[:2] == (400, "INVALID_INPUT")
    assert header in error(answer)[2]


def test_a_request_whose_time_is_over_leaves_the_queue(overloaded: Overloaded) -> None:
    first = overloaded.stall()
    computed = len(overloaded.device.tokens)
    late = overloaded.send("w2", "w3", X_Request_Timeout="1")
    other = overloaded.send("w2", X_Request_Timeout="60", X_SIE_Priority="Interactive")
    # While the device still stalls.
    assert error(late.result()) == (504, "GATEWAY_TIMEOUT", "the request's deadline has passed")
    poll(lambda: overloaded.scheduler.tokens == 5)
    assert metric(overloaded.api, "sie_cancelled_sequences_total", model="bert", reason="deadline") == 2
    overloaded.device.open.set()
    assert [first.result().status_code, other.result().status_code] == [200, 200]
    assert len(overloaded.device.tokens) == computed + 1


def test_work_that_can_not_be_done_in_time_is_refused_at_once(overloaded: Overloaded) -> None:
    assert overloaded.send("w2", X_Request_Timeout="60").result().status_code == 200
    overloaded.engine._admission.observe("bert", 1, 1e6)  # a token takes about ten hours
    answer = overloaded.send("w2", X_Request_Timeout="3000").result()
    assert error(answer)[:2] == (504, "GATEWAY_TIMEOUT")
    assert "would finish in about" in error(answer)[2]
    assert answer.headers["retry-after"] == "60"
    assert overloaded.send("w2").result().status_code == 200


def test_a_deadline_covers_the_load_of_a_model(models: Path) -> None:
    go = threading.Event()

    def loader(entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
        assert go.wait(30)
        return load(entry, device, precision)

    with in_process(loader, model=(str(models / "bert"),), load_wait=60) as running, connect(running.url) as api:
        answer = api.post("/v1/score/bert", json=body("w2"), headers={"X-Request-Timeout": "0.1"})
        go.set()
    assert error(answer)[:2] == (504, "GATEWAY_TIMEOUT")


# --- clients that have gone ------------------------------------------------------------------------------------------


def test_the_device_stops_within_a_batch_of_a_disconnect(overloaded: Overloaded) -> None:
    documents = [text(12, seed=n) for n in range(40)]
    sent = json.dumps(body(*documents)).encode()
    overloaded.device.open.clear()
    with socket.create_connection((overloaded.url.hostname, overloaded.url.port), 20) as connection:
        head = f"POST /v1/score/bert HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n\r\n"
        connection.sendall(head.encode() + sent)
        poll(lambda: overloaded.device.tokens)
    poll(lambda: overloaded.scheduler.tokens == 0)
    overloaded.device.open.set()
    poll(lambda: metric(overloaded.api, "sie_batch_size_sum", model="bert") > 0)
    computed = metric(overloaded.api, "sie_batch_size_sum", model="bert")
    assert computed == 64 // 16, "the batch that was on the device, of sequences of 16 tokens"
    assert metric(overloaded.api, "sie_cancelled_sequences_total", model="bert", reason="gone") == 40 - computed
    assert len(overloaded.device.tokens) == 1


# --- memory that runs out --------------------------------------------------------------------------------------------


def oom(api: httpx2.Client) -> dict[str, float]:
    names = ("recoveries_attempted", "recoveries_succeeded", "terminal_failures", "cache_clears", "batch_splits")
    return {name: metric(api, f"sie_oom_{name}_total") for name in names}


def too_much_asked() -> Exception:
    """What PyTorch really raises where its allocator on the CPU gets no memory."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**58)
    return raised.value


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError,
        MemoryError,
        too_much_asked,
    ],
)
def test_a_batch_that_does_not_fit_is_computed_in_parts(overloaded: Overloaded, failure: Any) -> None:
    documents = ["w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9"]
    expected = scores(overloaded.api, "bert", "w1", documents)
    overloaded.device.tokens.clear()
    overloaded.device.fits, overloaded.device.failure = 16, failure
    assert scores(overloaded.api, "bert", "w1", documents) == expected
    # 8 sequences of 5 tokens.
    assert overloaded.device.tokens == [40, 20, 10, 10, 20, 10, 10]
    assert oom(overloaded.api) == {
        "recoveries_attempted": 1,
        "recoveries_succeeded": 1,
        "terminal_failures": 0,
        "cache_clears": 3,
        "batch_splits": 3,
    }
    # What fits is known now.
    overloaded.device.tokens.clear()
    assert scores(overloaded.api, "bert", "w1", documents) == expected
    assert overloaded.device.tokens == [10, 10, 10, 10]
    assert overloaded.api.get("/livez").status_code == 200


def test_a_sequence_that_does_not_fit_fails_its_request_alone(overloaded: Overloaded) -> None:
    first = overloaded.stall()
    overloaded.device.fits = 24
    large, small = overloaded.send(text(40, seed=1)), overloaded.send("w3")
    poll(lambda: overloaded.scheduler.tokens == 44 + 5)
    overloaded.device.open.set()
    assert [first.result().status_code, small.result().status_code] == [200, 200]
    answer = large.result()
    assert error(answer)[:2] == (503, "RESOURCE_EXHAUSTED")
    assert "a batch of 44 tokens of model 'bert' does not fit" in error(answer)[2]
    assert answer.headers["retry-after"] == "5"
    counted = oom(overloaded.api)
    assert (counted["recoveries_attempted"], counted["terminal_failures"]) == (1, 1)
    assert counted["recoveries_succeeded"] == 0
    # Health tells the truth: the server works.
    assert overloaded.api.get("/livez").status_code == 200
    assert overloaded.send("w4").result().status_code == 200


def test_a_ceiling_recovers_slowly() -> None:
    limit = BatchLimit(512)
    limit.reduce(512)
    limit.reduce(256)
    assert limit.tokens == 128
    for _ in range(64):
        limit.count_batch()
    assert limit.tokens == 128 + 32
    for _ in range(64 * 16):
        limit.count_batch()
    assert limit.tokens == 512


# --- work that is not worth a thread ----------------------------------------------------------------------------------


def test_a_brief_request_is_computed_on_the_event_loop(overloaded: Overloaded) -> None:
    first = overloaded.send("w2 w3", "w4").result().json()["scores"]
    assert overloaded.device.threads == ["device-0"], "nothing is known of the model"
    overloaded.scheduler.observe("bert", 10**9, 1e-6)
    assert overloaded.send("w2 w3", "w4").result().json()["scores"] == first
    assert not overloaded.device.threads[-1].startswith("device-")
    seen = len(overloaded.device.tokens)
    overloaded.device.fits = 0
    assert error(overloaded.send("w2").result())[:2] == (503, "RESOURCE_EXHAUSTED"), "failures are those of a worker"
    overloaded.device.fits = 10**9
    assert len(overloaded.device.tokens) > seen
    assert overloaded.send("w2 w3", "w4").result().json()["scores"] == first


# --- a device that is lost -------------------------------------------------------------------------------------------


def test_a_watchdog_counts_checks_of_one_batch() -> None:
    work = Work(threading.current_thread())

    class Threads:
        def work(self) -> list[Work]:
            return [work]

    watchdog = Watchdog(Threads(), 8.0, lambda _: None)  # type: ignore[arg-type] # checks once a second
    sequence = Sequence(np.zeros(7, np.int32), np.zeros(7, np.int32))
    busy = Batch(SimpleNamespace(id="m"), [Scheduled(None, 0, sequence, 7)])  # type: ignore[arg-type]
    for _ in range(100):
        assert watchdog.check() is None, "nothing to do"
    work.batch = busy
    for work.batches in range(1, 10):
        assert [watchdog.check() for _ in range(8)] == [None] * 8, "another batch each time"
    assert "MainThread has been in one batch for 8 s: 1 sequences, 7 tokens, model m" in (watchdog.check() or "")


def test_a_device_that_can_not_be_used_any_more_is_not_live(overloaded: Overloaded) -> None:
    overloaded.device.fits, overloaded.device.failure = 0, lambda: torch.AcceleratorError("illegal memory access")
    overloaded.send("w2", X_Request_Timeout="1")
    poll(lambda: overloaded.api.get("/livez").status_code == 503)
    assert overloaded.api.get("/livez").text.startswith("device-0 died: AcceleratorError")
