"""`sie-server plan`: replicas, waiting and cost of a load, from the tokens per second of one replica."""

import sys
from dataclasses import asdict, dataclass
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from sie_server.cli import output
from sie_server.cli.flag_types import Count
from sie_server.cli.output import Json
from sie_server.cli.plan.queueing import Balancer, Load, replicas_for, wait
from sie_server.errors import LoadError, SIEError
from sie_server.settings import ChosenPrecision, Device, ExtraModels

_DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
_SHARE = 0.95
Positive = Annotated[float, Parameter(validator=Number(gt=0))]
NotNegative = Annotated[float, Parameter(validator=Number(gte=0))]


@dataclass(frozen=True)
class Plan:
    """The replicas that a load needs, spare ones included. Waits: seconds before a request is computed.

    busy: part of the time in which it computes, with all of them. busy_without, and the waits: without the spare ones.
    """

    replicas: int
    spare: int
    tokens_per_s: float
    pairs_per_s: float
    busy: float
    busy_without: float
    request_s: float
    wait_mean_s: float
    wait_p95_s: float
    per_million_pairs: float | None


def plan(
    id_: Annotated[str, Parameter(name="MODEL")] = _DEFAULT,
    /,
    *,
    qps: Positive,
    documents: Count = 100,
    tokens: Count = 140,
    tokens_per_second: Positive | None = None,
    wait_s: Positive = 0.5,
    max_busy: Annotated[float, Parameter(validator=Number(gt=0, lt=1))] = 0.8,
    spare: Annotated[int, Parameter(validator=Number(gte=0))] = 1,
    balancer: Balancer = "least",
    burstiness: Positive = 1.0,
    size_variation: NotNegative = 0.25,
    price: NotNegative | None = None,
    model: ExtraModels = (),
    device: Device = "auto",
    precision: ChosenPrecision = "auto",
    as_json: Json = False,
) -> int:
    """Plan how many replicas a load needs, how long requests wait, and what it costs.

    The rate of one replica is measured on this machine, or given. The rest follows from queueing theory; replicas are
    as fast as the one measured, and nothing else runs on them.

    Parameters
    ----------
    id_
        Id of a model that scores, a folder, or NAME=FOLDER. Measured unless --tokens-per-second is given.
    qps
        Requests per second, of all clients, at the busiest time to be planned for.
    documents
        Documents per request.
    tokens
        Tokens per pair of query and document.
    tokens_per_second
        Tokens per second of one replica, such as `sie-server bench` prints. Default: measured here, in a few seconds.
    wait_s
        Seconds that 95 % of the requests may wait before they are computed.
    max_busy
        The largest share of the time that a replica may be busy.
    spare
        Replicas that may be away without breaking the plan: those of a rolling update, or a lost machine.
    balancer
        least: to the replica with the least work or the fewest requests. random: to any, as a Service of Kubernetes.
    burstiness
        Squared coefficient of variation of the time between two requests. 1: independent clients. 4: strong bursts.
    size_variation
        Squared coefficient of variation of the tokens of a request. 0: all of one size.
    price
        Price of one replica for an hour.
    model
        Model in addition to the catalogue: a hub id, a folder, or NAME=FOLDER. Repeatable.
    device
        cpu, cuda, cuda:N, or auto: CUDA where there is one.
    precision
        Precision of the matrix products; auto: the fastest here of float32 and bfloat16.
    as_json
        Print JSON.
    """
    if tokens_per_second is None:
        from sie_server.cli.plan.rate import measured

        try:
            tokens_per_second = measured(id_, model, device, precision, documents, tokens)
        except (ValueError, LoadError, SIEError, RuntimeError) as error:
            print(getattr(error, "message", error), file=sys.stderr)
            return 1
    load = Load(qps, documents * tokens / tokens_per_second, burstiness, size_variation)
    try:
        found = planned(load, tokens_per_second, documents, wait_s, max_busy, spare, balancer, price)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if as_json:
        output.print_json(asdict(found))
    else:
        _print(found, balancer)
    return 0


def planned(
    load: Load,
    tokens_per_s: float,
    documents: int,
    wait_s: float,
    max_busy: float,
    spare: int,
    balancer: Balancer,
    price: float | None,
) -> Plan:
    """The plan for a load. documents: of a request. price: of a replica for an hour.

    Raises:
        ValueError: the load is too large.
    """
    needed = replicas_for(load, wait_s, _SHARE, max_busy, balancer)
    waiting = wait(load, needed, balancer)
    replicas = needed + spare
    pairs_per_s = load.requests_per_s * documents
    return Plan(
        replicas=replicas,
        spare=spare,
        tokens_per_s=tokens_per_s,
        pairs_per_s=pairs_per_s,
        busy=load.replicas / replicas,
        busy_without=load.replicas / needed,
        request_s=load.seconds,
        wait_mean_s=waiting.mean_s,
        wait_p95_s=waiting.percentile_s(_SHARE),
        per_million_pairs=None if price is None else price * replicas / 3600 / pairs_per_s * 1e6,
    )


def _print(found: Plan, balancer: Balancer) -> None:
    table = Table(show_header=False, box=None)
    spares = f", {found.spare} of them spare" if found.spare else ""
    lines = [
        ("replicas", f"{found.replicas}{spares}"),
        ("tokens per second of a replica", f"{found.tokens_per_s:,.0f}"),
        ("pairs per second in all", f"{found.pairs_per_s:,.0f}"),
        ("busy", f"{found.busy:.0%}; {found.busy_without:.0%} without the spare ones"),
        ("to compute a request", f"{found.request_s * 1000:,.1f} ms"),
        ("wait before it", f"mean {found.wait_mean_s * 1000:,.1f} ms, p95 {found.wait_p95_s * 1000:,.1f} ms"),
        ("balancer", balancer),
    ]
    if found.per_million_pairs is not None:
        lines.append(("price of a million pairs", f"{found.per_million_pairs:,.4g}"))
    for label, value in lines:
        table.add_row(label, value)
    output.console().print(table)
