"""Hit rate of the score cache in a Zipf-distributed log of queries, the rate it gains, and its cost.

    python benchmarks/score_cache.py
    python benchmarks/score_cache.py --layers 2 --requests 60 --log 5000     # a short run

The log: `--queries` queries, the n-th most frequent of which is asked in proportion to n^-s; each always has the same
`--candidates` documents, drawn from a corpus of `--corpus` documents of 20 to 84 words.

found: the table of the cache alone, over a log of `--log` requests, by its size in pairs and in bytes; next to it, a
table of the same number of pairs that drops the oldest of all pairs instead of the oldest of eight. Counted over the
second half of the log.

rate: engines in process with and without a cache (random weights), in turns, each request of a shorter log by both, and
their scores compared. The cache is empty before. At a hit rate of h, 1 / (1 - h) is what it can gain.

nothing found: requests of which no pair is known, by the same two engines in turns. Ratio of the CPU times of all
threads, round by round; and the time that the cache itself takes for such a request, measured alone, to the fastest
request without it.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from engine import SIZES, build
from in_process import Ours, serving
from tables import show, versions

from sie_server.catalog.catalog import Entry
from sie_server.cli.bench.figures import Summary
from sie_server.cli.bench.workload import QUERY_WORDS, text
from sie_server.engine.calls import ScoreCall
from sie_server.engine.documents import Documents
from sie_server.engine.results import DocumentScore
from sie_server.engine.score_cache import ScoreCache
from sie_server.engine.score_store import BYTES_PER_ENTRY, ScoreStore
from sie_server.metrics import Metrics
from sie_server.tokenization.config import LengthLimits
from sie_testing.rounds import Timed, interleave

# Sizes of the table, as shares of all pairs that the log could have.
SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
PLENTY = 2**28
WORDS = range(20, 85)


@dataclass(frozen=True)
class Found:
    """One size of the table. hit_rate, in_one_set: of the cache, and of one that drops the oldest of all pairs.

    microseconds: of a request's look-up, and of keeping what it did not find, by the table alone.
    """

    pairs: int
    bytes: int
    hit_rate: float
    in_one_set: float
    microseconds: float


@dataclass(frozen=True)
class Cost:
    """Cost of a cache for a request of which it knows nothing.

    cpu, wall: times with the cache over those without it, round by round. microseconds: that the cache takes by itself.
    share: of the fastest request without it.
    """

    cpu: Summary
    wall: Summary
    microseconds: float
    share: float


class Log:
    """Requests by a Zipf distribution over queries. candidates: of each query, indices of documents."""

    def __init__(self, queries: int, exponent: float, candidates: int, corpus: int) -> None:
        self._rng = np.random.default_rng(1)
        weights = np.arange(1, queries + 1) ** -exponent
        self._shares = weights / weights.sum()
        self.candidates = self._rng.integers(0, corpus, (queries, candidates))

    def requests(self, count: int) -> list[int]:
        """The queries of the next requests."""
        drawn: list[int] = self._rng.choice(len(self._shares), count, p=self._shares).tolist()
        return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--exponent", type=float, default=1.0)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--corpus", type=int, default=100_000)
    parser.add_argument("--log", type=int, default=40_000, help="requests of the table alone")
    parser.add_argument("--requests", type=int, default=300, help="of the engines")
    parser.add_argument("--rounds", type=int, default=15, help="of requests that find nothing")
    parser.add_argument("--model", choices=SIZES, default="minilm-l12")
    parser.add_argument("--layers", type=int, help="fewer than the model has, for a short run")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    log = Log(arguments.queries, arguments.exponent, arguments.candidates, arguments.corpus)
    drawn = log.requests(arguments.log)
    pairs = arguments.queries * arguments.candidates
    found = [find(log, drawn, int(pairs * share)) for share in SHARES]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, arguments.model, arguments.layers)
        entry = Entry("model", folder=folder, score="logit")
        settings = {"precision": arguments.precision, "queue_tokens": 10**8}
        with serving(entry, **settings) as off, serving(entry, score_cache=PLENTY, **settings) as on:
            rate = measure_rate(off, on, log, log.requests(arguments.requests))
            missed = {count: measure_misses(off, on, count, arguments.rounds) for count in (20, arguments.candidates)}
    log_of = f"{arguments.queries} queries, s = {arguments.exponent:g}, {arguments.candidates} candidates each"
    show(
        ["pairs", "bytes", "found", "found if one set", "µs per request"],
        [
            [
                f"{each.pairs:,}",
                f"{each.bytes / 1e6:.1f} MB",
                f"{each.hit_rate:.1%}",
                f"{each.in_one_set:.1%}",
                f"{each.microseconds:.0f}",
            ]
            for each in found
        ],
        {"log": log_of, "requests": arguments.log},
        arguments.markdown,
        "second half of the log",
    )
    show(
        ["requests", "found", "rate, × without cache", "CPU time, × without cache", "time of the cache alone"],
        [
            [f"{arguments.requests} of the log", f"{rate['hit_rate']:.1%}", f"{rate['gain']:.2f}", "", ""],
            *(
                [
                    f"{count} documents, none known",
                    "0 %",
                    "",
                    f"{cost.cpu.median:.3f} ({cost.cpu.low:.3f}–{cost.cpu.high:.3f})",
                    f"{cost.microseconds:.0f} µs, {cost.share:.2%} of the request",
                ]
                for count, cost in missed.items()
            ),
            [f"{arguments.candidates} documents, all known", "100 %", "", "", f"{rate['all_known_ms']:.2f} ms in all"],
        ],
        {"model": arguments.model, "layers": arguments.layers or "all", "precision": arguments.precision},
        arguments.markdown,
    )
    if arguments.json:
        figures: dict[str, Any] = {
            "versions": versions(),
            "arguments": {name: str(value) for name, value in vars(arguments).items()},
            "found": [asdict(each) for each in found],
            "rate": rate,
            "nothing_found": {count: asdict(cost) for count, cost in missed.items()},
        }
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def find(log: Log, drawn: Sequence[int], pairs: int) -> Found:
    """Look the log up in tables of `pairs` pairs, and store what is not there."""
    store, everything = ScoreStore(pairs * BYTES_PER_ENTRY), OrderedDict[int, None]()
    rng = np.random.default_rng(2)
    keys = rng.integers(0, 2**64, (*log.candidates.shape, 2), np.uint64)
    score = DocumentScore(0.5, 1, 100, False, None, 0, 0)
    hits = hits_of_all = 0
    seconds = []
    for number, query in enumerate(drawn):
        counted = number >= len(drawn) // 2
        started = time.perf_counter()
        known = np.array([each is not None for each in store.find(keys[query])])
        if not known.all():
            store.put(keys[query][~known], [score] * int((~known).sum()))
        seconds.append(time.perf_counter() - started)
        hits += counted * int(known.sum())
        for column in range(log.candidates.shape[1]):
            pair = query * log.candidates.shape[1] + column
            if pair in everything:
                hits_of_all += counted
                everything.move_to_end(pair)
            else:
                everything[pair] = None
                if len(everything) > store.capacity:
                    everything.popitem(last=False)
    asked = (len(drawn) - len(drawn) // 2) * log.candidates.shape[1]
    taken = store.capacity * BYTES_PER_ENTRY
    return Found(store.capacity, taken, hits / asked, hits_of_all / asked, statistics.median(seconds) * 1e6)


def measure_rate(off: Ours, on: Ours, log: Log, drawn: Sequence[int]) -> dict[str, float]:
    """Requests by both engines in turns."""
    rng = random.Random(3)
    queries = {query: text(rng, QUERY_WORDS) for query in sorted(set(drawn))}
    documents: dict[int, str] = {}
    engines, seconds = {"off": off, "on": on}, {"off": 0.0, "on": 0.0}
    scores: dict[str, list[float]] = {}
    all_known: list[float] = []

    def ask(engine: Ours, name: str, query: int, texts: list[str]) -> None:
        scores[name] = engine.score(queries[query], texts).scores

    for turn, query in enumerate(drawn):
        texts = [
            documents.setdefault(each, text(random.Random(each), WORDS[each % len(WORDS)]))
            for each in log.candidates[query].tolist()
        ]
        took = interleave({name: partial(ask, engines[name], name, query, texts) for name in engines}, [turn])
        assert scores["on"] == scores["off"], "the cache changes a score"
        for name, [each] in took.items():
            seconds[name] += each
    for _ in range(20):
        started = time.perf_counter()
        on.score(queries[drawn[-1]], [documents[each] for each in log.candidates[drawn[-1]].tolist()])
        all_known.append(time.perf_counter() - started)
    registry = on.running.engine._metrics.registry
    hits, misses = (
        registry.get_sample_value("sie_score_cache_texts_total", {"model": on.model.id, "result": result}) or 0.0
        for result in ("hit", "miss")
    )
    hits -= len(all_known) * log.candidates.shape[1]
    return {
        "hit_rate": hits / (hits + misses),
        "gain": seconds["off"] / seconds["on"],
        "seconds_off": seconds["off"],
        "seconds_on": seconds["on"],
        "all_known_ms": statistics.median(all_known) * 1e3,
    }


def measure_misses(off: Ours, on: Ours, count: int, rounds: int) -> Cost:
    """Requests of `count` documents that find nothing, because each has a query of its own."""
    rng = random.Random(4)
    texts = [text(rng, WORDS[each % len(WORDS)]) for each in range(count)]
    queries = iter(f"{number} {text(rng, QUERY_WORDS - 1)}" for number in range(10**6))
    query = ""

    def ask(engine: Ours) -> None:
        engine.score(query, texts)

    timed = {"off": Timed(lambda: ask(off)), "on": Timed(lambda: ask(on))}

    def turns() -> Iterator[int]:
        nonlocal query
        for turn in range(rounds):
            query = next(queries)
            yield turn

    seconds = interleave(timed, turns())
    alone = cache_seconds(on, texts, [next(queries) for _ in range(200)])
    return Cost(
        Summary.of(on / off for off, on in zip(timed["off"].cpu, timed["on"].cpu, strict=True)),
        Summary.of(on / off for off, on in zip(seconds["off"], seconds["on"], strict=True)),
        alone * 1e6,
        alone / min(seconds["off"]),
    )


def cache_seconds(on: Ours, texts: list[str], queries: Sequence[str]) -> float:
    """Median time of all that a cache does for a request of which it knows nothing."""
    cache = ScoreCache(PLENTY, per_client=False, metrics=Metrics())
    scores = [DocumentScore(0.5, 1, 100, False, None, 0, 0)] * len(texts)
    documents, limits, seconds = Documents.of(texts), LengthLimits(), []
    for query in queries:
        call = ScoreCall(on.model.id, query, texts)
        started = time.perf_counter()
        keys = cache.keys(on.model, call, limits, query, documents)
        cache.put(cache.look_up(on.model.id, documents, keys, limits), scores)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
