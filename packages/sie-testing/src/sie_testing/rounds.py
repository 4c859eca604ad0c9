"""Interleaved rounds of candidates, and their ratios. Imports nothing heavy."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sie_server.cli.bench.figures import Summary


@dataclass
class Timed:
    """A call, and the CPU seconds of all threads of each of its runs."""

    call: Callable[[], object]
    cpu: list[float] = field(default_factory=list)

    def __call__(self) -> None:
        started = time.process_time()
        self.call()
        self.cpu.append(time.process_time() - started)


def interleave(
    candidates: Mapping[str, Callable[[], object]], rounds: Iterable[int], rest: float = 0.0
) -> dict[str, list[float]]:
    """Seconds per candidate and round. A round runs each candidate once, and the next one starts with another.

    `rest` is a wait in seconds before each, for candidates so short that the last one's idle threads, which look out
    for work for a while before they sleep, would be timed with them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for turn in rounds:
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(rest)
            started = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(base: Iterable[float], seconds: Iterable[float]) -> Summary:
    """Speed relative to `base`, per round."""
    return Summary.of(theirs / ours for theirs, ours in zip(base, seconds, strict=True))
