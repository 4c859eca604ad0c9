"""The engine without HTTP, in turns with its peer."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.description import read_model_config
from sie_server.cli.bench.arithmetic import operations, peak
from sie_server.cli.bench.peer import peer
from sie_server.cli.rankers.local_engine import local_engine
from sie_server.engine.calls import ScoreCall
from sie_server.engine.engine import Engine
from sie_server.engine.results import Ranking
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Precision


@dataclass(frozen=True)
class Loaded:
    """A model in an engine of this process. threads: torch's, before a device thread set its own to one."""

    engine: Engine
    model: LoadedModel
    threads: int
    runner: asyncio.Runner

    def score(self, query: str, texts: list[str]) -> Ranking:
        """A whole request, tokenization included."""
        return self.runner.run(self.engine.score(ScoreCall(self.model.id, query, texts)))


@contextmanager
def loaded(entry: Entry, device: str, precision: Precision) -> Iterator[Loaded]:
    """The model of `entry`; its threads are gone afterwards.

    Raises:
        ValueError: an unknown device.
        LoadError, SIEError: the model can't be loaded, or does not score.
    """
    threads, stack = torch.get_num_threads(), AsyncExitStack()

    async def start() -> tuple[Engine, LoadedModel]:
        engine = await stack.enter_async_context(local_engine(entry, device, precision))
        async with engine.residency.serving(entry.id, ["score"]) as model:
            return engine, model

    with asyncio.Runner() as runner:
        try:
            engine, model = runner.run(start())
            # A device thread sets its own to one, and a thread that has not asked before would take that over.
            torch.set_num_threads(threads)
            yield Loaded(engine, model, threads, runner)
        finally:
            runner.run(stack.aclose())


@dataclass(frozen=True)
class Rounds:
    """Seconds of ours and of the peer per round, operations per second of a large product, and what was scored.

    operations: of the plain forward of all texts. theirs: none without a peer; peer_skipped says why there is none.
    """

    ours: list[float]
    theirs: list[float]
    peaks: list[float]
    scored: Ranking
    operations: float
    peer_skipped: str | None


def rounds(ours: Loaded, folder: Path, query: str, texts: list[str], count: int, advance: Callable[[], None]) -> Rounds:
    """Score the texts so often, with each side, in turning order."""
    scored = ours.score(query, texts)
    their_call, skipped = peer(ours.model, folder, query, texts)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    calls: dict[str, Callable[[], object]] = {"ours": lambda: ours.score(query, texts)}
    if their_call is not None:
        calls["theirs"] = their_call
    peaks = []
    for turn in range(count):
        peaks.append(peak(ours.model.dtype, ours.engine.device))
        for name in sorted(calls, reverse=bool(turn % 2)):
            started = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - started)
        advance()
    work = operations(ours.model, read_model_config(Checkpoint(folder)), scored.lengths)
    return Rounds(seconds["ours"], seconds["theirs"], peaks, scored, work, skipped)
