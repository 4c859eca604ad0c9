"""One model measured: in process and through a server, beside sentence-transformers."""

import asyncio
import importlib
import logging
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from rich.progress import Progress

from sie_server.choices import Precision
from sie_server.engine.engine import Engine
from sie_server.engine.limits import Limits
from sie_server.engine.results import Scored
from sie_server.measure.arithmetic import operations, peak
from sie_server.measure.served import Client, percentiles, serving
from sie_server.measure.workload import body, padded, workload
from sie_server.metrics import Metrics
from sie_server.models.catalog import Entry
from sie_server.models.config import read_config
from sie_server.models.model import Model
from sie_server.models.modules import with_modules
from sie_server.models.source import locate
from sie_server.settings import Settings

_LOG = logging.getLogger(__name__)
_FEW = 20
_LOAD_S = 3600.0


@dataclass(frozen=True)
class Summary:
    """Median, least and most of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Summary":
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Peer:
    """sentence-transformers with its defaults, in float32. times_slower: against us, round by round."""

    documents_per_s: Summary
    times_slower: Summary


@dataclass(frozen=True)
class InProcess:
    """The engine without HTTP. share_of_peak: useful operations per second over those of a large
    product, the best of one per round."""

    documents_per_s: Summary
    tokens_per_s: Summary
    share_of_peak: Summary


@dataclass(frozen=True)
class Served:
    """Through a server of its own process. latency_ms: of a request of 20 documents, on the client's clock.

    overhead_ms: of that what is not inference, round trip included.
    """

    documents_per_s: Summary
    latency_ms: dict[str, float]
    overhead_ms: dict[str, float]


@dataclass(frozen=True)
class Figures:
    """What `sie-server bench` prints."""

    model: str
    device: str
    precision: str
    threads: int
    documents: int
    tokens: int
    padded_tokens: int
    peak_gflops: float
    in_process: InProcess
    peer: Peer | None
    peer_skipped: str | None
    served: Served


def measure(
    entry: Entry, device: str, precision: Precision, documents: int, rounds: int, requests: int, progress: Progress
) -> Figures:
    """Load the model, run it in process and in a server.

    Raises:
        ValueError: an unknown device.
        LoadError, SIEError: the model can't be loaded, or does not score.
        RuntimeError: its server did not start.
    """
    folder = locate(entry)
    config = with_modules(read_config(folder), folder)
    query, texts = workload(documents)
    settings = Settings(device=device, precision=precision, load_wait=_LOAD_S)
    engine = Engine(settings, {entry.id: entry}, Metrics())
    loop = asyncio.new_event_loop()
    # A device thread sets its own to one, and a thread that has not asked before would take that over.
    threads = torch.get_num_threads()
    task = progress.add_task("loading", total=1 + 2 * rounds + requests)
    try:
        model = loop.run_until_complete(_start(engine, entry.id))
        progress.update(task, description="in process", advance=1)
        torch.set_num_threads(threads)
        score = _scorer(loop, engine, model)
        scored = score(query, texts)
        peer, skipped = _peer(model, folder, query, texts)
        seconds: dict[str, list[float]] = {"ours": [], "peer": []}
        peaks = []
        for turn in range(rounds):
            peaks.append(peak(model.dtype, engine.device))
            pairs = {"ours": lambda: score(query, texts), **({"peer": peer} if peer else {})}
            for name in sorted(pairs, reverse=bool(turn % 2)):
                seconds[name].append(_timed(pairs[name]))
            progress.advance(task)
        work = operations(model, config, scored.lengths)
    finally:
        loop.run_until_complete(engine.close())
        loop.close()
    flags = ["--preload", entry.id, "--device", device, "--precision", precision]
    if entry.folder is not None:
        flags += ["--model", f"{entry.id}={entry.folder}"]
    elif entry.revision is None:
        flags += ["--model", entry.id]
    progress.update(task, description="through a server")
    served = _served(flags, entry.id, query, texts, rounds, requests, lambda: progress.advance(task))
    ours = seconds["ours"]
    return Figures(
        model=entry.id,
        device=str(engine.device),
        precision=str(model.dtype).removeprefix("torch."),
        threads=threads,
        documents=documents,
        tokens=scored.tokens,
        padded_tokens=padded(scored.lengths),
        peak_gflops=max(peaks) / 1e9,
        in_process=InProcess(
            documents_per_s=Summary.of(documents / value for value in ours),
            tokens_per_s=Summary.of(scored.tokens / value for value in ours),
            share_of_peak=Summary.of(work / value / max(peaks) for value in ours),
        ),
        peer=None
        if peer is None
        else Peer(
            Summary.of(documents / value for value in seconds["peer"]),
            Summary.of(theirs / value for theirs, value in zip(seconds["peer"], ours, strict=True)),
        ),
        peer_skipped=skipped,
        served=served,
    )


async def _start(engine: Engine, model_id: str) -> Model:
    engine.start()
    return await engine.model(model_id, ["score"])


def _scorer(loop: asyncio.AbstractEventLoop, engine: Engine, model: Model) -> Callable[[str, list[str]], Scored]:
    return lambda query, texts: loop.run_until_complete(engine.score(model, query, texts, Limits()))


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _peer(model: Model, folder: Any, query: str, texts: list[str]) -> tuple[Callable[[], object] | None, str | None]:
    """sentence-transformers' way of doing it, ready to run and warm; or why there is none."""
    if find_spec("sentence_transformers") is None:
        return None, "it is not installed"
    if model.tokenizer.prompt is not None:
        return None, "it has no prompt of its own for this model"
    package: Any = importlib.import_module("sentence_transformers")
    call: Callable[[], object]
    try:
        if model.encoder.head is not None:
            cross = package.CrossEncoder(str(folder), device=str(model.device))
            pairs = [(query, text) for text in texts]
            call = lambda: cross.predict(pairs, show_progress_bar=False)  # noqa: E731
        else:
            # What both sides encode; comparing the vectors is left out on its side.
            plain = package.SentenceTransformer(str(folder), device=str(model.device))
            call = lambda: plain.encode([query, *texts], show_progress_bar=False)  # noqa: E731
        call()
    except Exception as error:  # a peer that can't read the checkpoint must not end the measurement of ours
        _LOG.debug("sentence-transformers", exc_info=True)
        return None, f"it could not run the model: {error}"
    return call, None


def _served(
    flags: list[str],
    model_id: str,
    query: str,
    texts: list[str],
    rounds: int,
    requests: int,
    advance: Callable[[], None],
) -> Served:
    large, small = body(query, texts), body(query, workload(_FEW, seed=2)[1])
    with serving(*flags) as server:
        client = Client(server.url, model_id)
        try:
            client.score(large)
            rates = []
            for _ in range(rounds):
                rates.append(len(texts) / client.score(large).seconds)
                advance()
            client.score(small)
            answers = []
            for _ in range(requests):
                answers.append(client.score(small))
                advance()
        finally:
            client.close()
    return Served(
        documents_per_s=Summary.of(rates),
        latency_ms=percentiles([answer.seconds for answer in answers]),
        overhead_ms=percentiles([answer.seconds - answer.stages["inference"] for answer in answers]),
    )
