"""`sie-server bench`: how fast a model is on this machine."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sie_server.catalog.catalog import parse_known, shipped, with_models
from sie_server.cli import output
from sie_server.cli.flag_types import Count
from sie_server.cli.output import Json
from sie_server.errors import LoadError, SIEError
from sie_server.machine.processor import processor_name
from sie_server.settings import ChosenPrecision, Device, ExtraModels

if TYPE_CHECKING:
    from sie_server.cli.bench.figures import Figures

_DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


def bench(
    id_: Annotated[str, Parameter(name="MODEL")] = _DEFAULT,
    /,
    *,
    model: ExtraModels = (),
    device: Device = "auto",
    precision: ChosenPrecision = "auto",
    documents: Count = 100,
    rounds: Count = 5,
    requests: Count = 50,
    as_json: Json = False,
) -> int:
    """Measure how fast a model is on this machine.

    In process, and against sentence-transformers where it is installed; then through a server that it starts on a free
    port of the loopback interface. The documents are made of common words; pairs have about 140 tokens on average.

    Parameters
    ----------
    id_
        Id of a model that scores, a folder, or NAME=FOLDER.
    model
        Model in addition to the catalogue: a hub id, a folder, or NAME=FOLDER. Repeatable.
    device
        cpu, cuda, cuda:N, or auto: CUDA where there is one.
    precision
        Precision of the matrix products; auto: the fastest here of float32 and bfloat16.
    documents
        Documents in a large request.
    rounds
        How often each candidate scores them.
    requests
        Requests of 20 documents for the latency: this many in sequence, and as many from 8 concurrent clients.
    as_json
        Print JSON.
    """
    from sie_server.cli.bench.run import measure

    known = with_models(shipped(), model)
    try:
        entry = parse_known(id_, known)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            figures = measure(entry, device, precision, documents, rounds, requests, progress)
    except (ValueError, LoadError, SIEError, RuntimeError) as error:
        print(getattr(error, "message", error), file=sys.stderr)
        return 1
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(figures), indent=2).decode())
    else:
        _print(figures)
    return 0


def _print(figures: "Figures") -> None:
    console = output.console()
    title = f"{figures.model}, {figures.precision} on {figures.device}, {figures.threads} threads"
    table = Table(title=f"{title} ({processor_name()})", title_justify="left", show_header=False, box=None)
    for label, value in _lines(figures):
        table.add_row(label, value)
    console.print(table)


def _lines(figures: "Figures") -> list[tuple[str, str]]:
    ours, served = figures.in_process, figures.served
    share = f"{_spread(ours.share_of_peak, '.0%')} of {figures.peak_gflops:,.0f} GFLOP/s, a large product's"
    batches = f"{figures.tokens:,} tokens instead of {figures.padded_tokens:,} in batches of 32, longest first"
    return [
        ("documents per second", f"{_spread(ours.documents_per_s, ',.1f')}, {figures.documents} documents, in process"),
        ("tokens per second", _spread(ours.tokens_per_s, ",.0f")),
        ("share of peak", share),
        ("padding avoided", f"{1 - figures.tokens / figures.padded_tokens:.0%}: {batches}"),
        ("sentence-transformers", _peer(figures)),
        ("through the server", f"{_spread(served.documents_per_s, ',.1f')} documents per second"),
        ("a request of 20, ms", _percentiles(served.latency_ms)),
        ("its part beside inference, ms", f"p50 {served.overhead_ms['p50']:.2f}"),
        ("of 8 clients at once, ms", _percentiles(served.together_ms)),
    ]


def _peer(figures: "Figures") -> str:
    if figures.peer is None:
        return f"skipped: {figures.peer_skipped}"
    rate = f"{_spread(figures.peer.documents_per_s, ',.1f')} documents per second in float32"
    return f"{rate}; ours is {_spread(figures.peer.times_slower, '.2f')} × as fast"


def _percentiles(milliseconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in milliseconds.items())


def _spread(summary: Any, form: str) -> str:
    return f"{summary.median:{form}} ({summary.low:{form}} to {summary.high:{form}})"
