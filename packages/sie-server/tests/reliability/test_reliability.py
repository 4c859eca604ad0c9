"""The short forms of the proofs in reliability/: nothing wrong, nothing lost, under load, faults and mixed traffic."""

import asyncio
import math
import struct
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import pytest
from bodies import bombs
from expected_scores import ExpectedScores
from fault_files import flipped
from fault_network import half_sent
from fault_process import killed
from instrumented import threads
from invariance import EVERY, build_all, compare
from load import LoadTest, requests_per_second
from pairs import differing
from process_stats import ProcessStats
from soak import Held, checkpoints, instrumented, leaks, soak, spread
from stalls import measured, watched
from watched import _watch
from workload import Request, Workload, checkpoint_words, make_workload

from sie_server.metrics import Metrics
from sie_testing.serving import EMBEDDED, Server


def test_under_overload_every_answer_is_right_or_says_when_to_come_back() -> None:
    with Server("--preload", EMBEDDED, "--queue-tokens=1500") as server:
        workloads, expected = [make_workload(EMBEDDED, 2, 12)], ExpectedScores()
        expected.learn(server.url, workloads)
        load_test = LoadTest(server, workloads, expected)
        closed = load_test.closed(32, seconds=2)
        # Of what this machine can do: a rate of its own would be no overload for a faster one.
        phases = [closed, load_test.opened(rate=3 * requests_per_second(closed), factor=3, seconds=2)]
    for phase in phases:
        counts = phase.counts
        assert (counts.wrong, dict(counts.lost), counts.without_retry_after) == ([], {}, 0)
        assert set(counts.errors) == {"503 QUEUE_FULL"}
        assert counts.right + counts.errors.total() == counts.requests


def test_mixed_traffic_leaves_nothing_behind(tmp_path: Path) -> None:
    names = ("bert", "modernbert")
    workloads = [make_workload(EMBEDDED, 2, 6), *(make_workload(name, 2, 6, text=checkpoint_words) for name in names)]
    with instrumented("--preload", EMBEDDED, *checkpoints(tmp_path, names)) as server:
        figures = soak(server, workloads, {EMBEDDED: ["dense", "multivector"]}, minutes=0.06, large=50)
    assert (figures["wrong"], figures["lost"], figures["leaks"]) == ([], {}, {})
    assert all(figures["done"].values())


@pytest.mark.parametrize("names", [("bert", "modular", "pylate", "qwen3"), pytest.param(EVERY, marks=pytest.mark.long)])
def test_architectures_at_once_score_as_alone(tmp_path: Path, names: tuple[str, ...]) -> None:
    flags = build_all(tmp_path, names)
    with Server("--preload", EMBEDDED, *flags) as server:
        figures = compare(server, [EMBEDDED, *names], documents=2, connections=12, seconds=1)
        assert differing(server.url, "bert", checkpoint_words, queries=1) == (20, 0)
    assert (figures["differ"], figures["lost"], figures["errors"]) == ([], {}, {})
    assert figures["right"]
    assert figures["vectors"]


@pytest.mark.parametrize(
    ("inflict", "tries"),
    [
        (half_sent, 1),
        pytest.param(killed, 1, marks=pytest.mark.long),
        pytest.param(flipped, 4, marks=pytest.mark.long),
    ],
)
def test_after_a_fault_every_answer_is_right(inflict: Callable[[int], Any], tries: int) -> None:
    report = inflict(tries)
    assert report.passed, report.row
    assert report.right


# --- that the proofs can fail ----------------------------------------------------------------------------------------

REQUEST = Workload("m", ("query",), ("a", "b")).request("query", [0, 1])


def answer(**changes: Any) -> bytes:
    entries = [{"item_id": "item-1", "score": 0.5, "rank": 0}, {"item_id": "item-0", "score": 0.25, "rank": 1}]
    usage = {"input_tokens": 9}
    return msgspec.json.encode({"model": "m", "query_id": "query", "scores": entries, "usage": usage} | changes)


def entries(*scores: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"item_id": item, "score": score, "rank": rank} for rank, (item, score) in enumerate(scores)]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (answer(), None),
        (answer(model="other"), "another request"),
        (answer(query_id=None), "another request"),
        (answer(scores=entries(("item-1", 0.5))), "missing"),
        (answer(scores=entries(("item-1", 0.5), ("item-1", 0.5))), "duplicated"),
        (answer(scores=entries(("item-1", math.nextafter(0.5, 1)), ("item-0", 0.25))), "item-1 has 0.5000000000000001"),
        (answer(scores=entries(("item-0", 0.25), ("item-1", 0.5))), "ranks"),
        (b"{", "not an answer"),
    ],
)
def test_a_wrong_answer_is_found(body: bytes, fault: str | None) -> None:
    expected = ExpectedScores({("m", "query", "a"): 0.25, ("m", "query", "b"): 0.5})
    found = expected.fault(REQUEST, body)
    assert found == fault if fault is None else fault in (found or "")


def test_pairs_whose_score_depends_on_the_batch_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_more_in_company(_: object, request: Request) -> list[float]:
        # Of the third document alone, beside others.
        return [0.5 + (number == 2 and len(request.numbers) > 1) for number in request.numbers]

    monkeypatch.setattr("pairs.scores", one_more_in_company)
    assert differing("http://nowhere", "m", checkpoint_words, queries=2) == (40, 2)


def test_growth_is_found() -> None:
    flat = [ProcessStats(at, 1000 + at % 3, 10, 20, 3) for at in range(100)]
    grown = [ProcessStats(at, 1000 + at, 10, 20, 3) for at in range(100)]
    assert spread(flat) < 0.002
    assert spread(grown) > 0.04


def test_leaks_are_found() -> None:
    pools = {"body": 2, "load": 1, "asyncio": 6}
    before = Held(files=20, sockets=3, tasks=2, threads={"device": 2, "body": 1, "load": 1}, pools=pools)
    assert leaks(before, before) == {}
    assert leaks(before, before._replace(files=21, sockets=4, tasks=3)) == {
        "files": (20, 21),
        "sockets": (3, 4),
        "tasks": (2, 3),
    }
    # One more of a pool is none, but where the pool is full, or where there is no such pool.
    assert leaks(before, before._replace(threads={"device": 2, "body": 2, "load": 1, "asyncio": 1})) == {}
    assert leaks(before, before._replace(threads={"device": 3, "body": 3, "load": 2, "stray": 1})) == {
        "threads: device": (2, 3),
        "threads: body": (1, 3),
        "threads: load": (1, 2),
        "threads: stray": (0, 1),
    }


def test_threads_are_known_by_their_names() -> None:
    before, end = threads(), Event()
    stray = [Thread(target=end.wait, name=f"stray-{number}") for number in range(2)]
    for thread in stray:
        thread.start()
    after = threads()
    end.set()
    for thread in stray:
        thread.join()
    assert after["stray"] - before["stray"] == 2


def test_a_step_of_100_ms_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "stalls"
    kept.write_bytes(bytes(8))
    monkeypatch.setenv("STALLS", str(kept))

    async def stalled() -> None:
        watch = asyncio.create_task(_watch(Metrics()))
        await asyncio.sleep(0.02)
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass
        await asyncio.sleep(0.02)
        watch.cancel()

    asyncio.run(stalled())
    assert struct.unpack("d", kept.read_bytes())[0] >= 0.1


# One of each kind that once kept the event loop for as long as it was large: at this size for 0.1 s and more.
KINDS = (
    *("score many {}", "score many [[]]", "score metadata keys", "score the same field", "score nested objects"),
    *("score text of '\\\\n'", "score id of '中'", "score digits", "score fields", "score quotes"),
    *("score msgpack many empty items", "score msgpack nested", "score msgpack a field of many lists"),
    *('rerank many "\\u00e9"', "rerank model of 'x'", "rerank backslashes"),
    *("embeddings many []", "embeddings many 7", "embeddings model of '中'"),
    *("/rerank many {}", "/v2/embed many 7", "/predict many [[]]", "/tokenize many null", "/decode lists of ids"),
)


@pytest.mark.long
def test_no_body_keeps_the_event_loop() -> None:
    with watched("--workers=1") as (server, shared):
        chosen = [bomb for bomb in bombs(4_000_000) if bomb.name in KINDS]
        assert len(chosen) == len(KINDS)
        stalls = list(measured(server, shared, chosen))
        assert any(stall.stall > 0 for stall in stalls), "the loop was not watched"
        for stall in stalls:
            assert stall.status in (200, 400, 422), (stall.bomb.name, stall[1:])
            assert stall.stall < 0.05, (stall.bomb.name, stall[1:])
            assert stall.peak < 1500, (stall.bomb.name, stall[1:])
