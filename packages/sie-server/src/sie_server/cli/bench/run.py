"""One model measured: in process and through a server, compared with sentence-transformers."""

from collections.abc import Callable, Iterator
from contextlib import closing

from rich.progress import Progress

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.source import locate
from sie_server.cli.bench.figures import Figures, InProcess, Peer, Served, Summary
from sie_server.cli.bench.in_process import Rounds, loaded, rounds
from sie_server.cli.bench.latency import alone, overhead, together
from sie_server.cli.bench.server_process import ServerProcess
from sie_server.cli.bench.through_server import Client, percentiles
from sie_server.cli.bench.workload import body, padded, workload
from sie_server.nn.precision import dtype_name
from sie_server.options import Precision

_FEW, _CLIENTS = 20, 8


def measure(
    entry: Entry, device: str, precision: Precision, documents: int, turns: int, requests: int, progress: Progress
) -> Figures:
    """Load the model, run it in process and in a server.

    turns: how often each candidate scores the documents. requests: of 20 documents, for the latency.

    Raises:
        ValueError: an unknown device.
        LoadError, SIEError: the model can't be loaded, or does not score.
        RuntimeError: its server did not start.
    """
    folder = locate(entry).folder
    query, texts = workload(documents)
    each = -(-requests // _CLIENTS)
    task = progress.add_task("loading", total=1 + 2 * turns + requests + each * _CLIENTS)

    def advance() -> None:
        progress.advance(task)

    with loaded(entry, device, precision) as ours:
        progress.update(task, description="in process", advance=1)
        timed = rounds(ours, folder, query, texts, turns, advance)
    flags = ["--preload", entry.id, "--device", device, "--precision", precision]
    if entry.folder is not None:
        flags += ["--model", f"{entry.id}={entry.folder}"]
    elif entry.revision is None:
        flags += ["--model", entry.id]
    progress.update(task, description="through a server")
    return Figures(
        model=entry.id,
        device=str(ours.engine.device),
        precision=dtype_name(ours.model.dtype),
        threads=ours.threads,
        documents=documents,
        tokens=timed.scored.tokens,
        padded_tokens=padded(timed.scored.lengths),
        peak_gflops=max(timed.peaks) / 1e9,
        in_process=_in_process(timed),
        peer=_peer(timed),
        peer_skipped=timed.peer_skipped,
        served=_served(flags, entry.id, query, texts, turns, requests, each, advance),
    )


def _in_process(timed: Rounds) -> InProcess:
    return InProcess(
        documents_per_s=Summary.of(len(timed.scored.lengths) / seconds for seconds in timed.ours),
        tokens_per_s=Summary.of(timed.scored.tokens / seconds for seconds in timed.ours),
        share_of_peak=Summary.of(timed.operations / seconds / max(timed.peaks) for seconds in timed.ours),
    )


def _peer(timed: Rounds) -> Peer | None:
    if timed.peer_skipped is not None:
        return None
    return Peer(
        Summary.of(len(timed.scored.lengths) / seconds for seconds in timed.theirs),
        Summary.of(theirs / ours for theirs, ours in zip(timed.theirs, timed.ours, strict=True)),
    )


def _served(
    flags: list[str],
    model_id: str,
    query: str,
    texts: list[str],
    turns: int,
    requests: int,
    each: int,
    advance: Callable[[], None],
) -> Served:
    large, small = body(query, texts), body(query, workload(_FEW, seed=2)[1])

    def counted(count: int) -> Iterator[int]:
        for turn in range(count):
            yield turn
            advance()

    with ServerProcess(*flags) as server:

        def connect() -> Client:
            return Client(server.url, model_id)

        with closing(connect()) as client:
            client.score(large)
            rates = [len(texts) / client.score(large).seconds for _ in counted(turns)]
        answers = alone(connect(), small, counted(requests))
        beside = together(connect, _CLIENTS, small, lambda: counted(each))
    return Served(
        documents_per_s=Summary.of(rates),
        latency_ms=percentiles([answer.seconds for answer in answers]),
        overhead_ms=percentiles([*map(overhead, answers)]),
        together_ms=percentiles([answer.seconds for answer in beside]),
    )
