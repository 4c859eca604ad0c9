"""`sie-server doctor`: what this machine offers the server, and what to do where it offers less than it could."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.markup import escape
from rich.table import Table

from sie_server import __version__
from sie_server.cli.output import Json, console, print_json
from sie_server.settings import ChosenPrecision, Device

if TYPE_CHECKING:
    import torch

Status = Literal["ok", "note", "problem"]
_COLORS: dict[Status, str] = {"ok": "green", "note": "yellow", "problem": "red"}


@dataclass(frozen=True)
class Finding:
    """A fact about this machine. note: it could be better; problem: the server can't start, or is slow."""

    name: str
    status: Status
    text: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def doctor(
    *, device: Device = "auto", precision: ChosenPrecision = "auto", measure: bool = False, as_json: Json = False
) -> int:
    """Check this machine: processor, memory, kernels, device and the precisions that are fast on it.

    Exits with 1 if it finds a problem.

    Parameters
    ----------
    device
        cpu, cuda, cuda:N, or auto: CUDA if available.
    precision
        Precision of matrix products; auto: the fastest here of float32 and bfloat16. int8: CPU only.
    measure
        Measure the rates of the precisions again, and keep them for later starts in place of the earlier ones.
    as_json
        Print JSON.
    """
    findings = list(examine(device, precision, measure))
    if as_json:
        print_json(findings)
    else:
        _print(findings)
    return int(any(finding.status == "problem" for finding in findings))


def examine(device: str, precision: ChosenPrecision, measure: bool) -> Iterator[Finding]:
    """Yield the findings, from the processor to the models."""
    yield _processor()
    yield _memory()
    try:
        from sie_server.nn.device import resolve_device

        place = resolve_device(device)
    except ValueError as error:  # also of SIE_MAX_CPU_ISA
        yield Finding("device", "problem", str(error))
        return
    yield _kernels()
    yield _device(place)
    yield from _precisions(place, precision, measure)
    yield _models()


def _processor() -> Finding:
    from sie_server.machine.cores import usable_cores
    from sie_server.machine.numa import usable_nodes
    from sie_server.machine.processor import LIBRARY_LIMITS, processor_name

    name = processor_name()
    cores, present = usable_cores(), os.cpu_count() or 1
    usable = f"{cores} of {present} cores" if cores < present else f"{cores} cores"
    if (nodes := len(usable_nodes())) > 1:
        usable += f" in {nodes} NUMA nodes; try --pin-workers node, which was never measured on such a machine"
    facts = {"processor": name, "usable_cores": cores, "cores": present, "numa_nodes": nodes}
    limits = {limit: value for limit in ("SIE_MAX_CPU_ISA", *LIBRARY_LIMITS) if (value := os.environ.get(limit))}
    if limits:
        listed = ", ".join(f"{limit}={value}" for limit, value in limits.items())
        advice = "These variables limit the instructions that are used; without them, the server may be faster."
        return Finding("processor", "note", f"{name}, {usable}, limited by {listed}", advice, {**facts, **limits})
    return Finding("processor", "ok", f"{name}, {usable}", facts=facts)


def _memory() -> Finding:
    from sie_server.machine.memory import present_memory, usable_memory

    usable, present = usable_memory(), present_memory()
    text = f"{usable / 2**30:.1f} GiB" + (f" of {present / 2**30:.1f} GiB" if usable < present else "")
    return Finding("memory", "ok", text, facts={"usable_bytes": usable, "bytes": present})


def _kernels() -> Finding:
    from sie_server.nn.kernels.library import installed_library, library_path, linear_isa_level, vector_isa_level

    library = installed_library()
    if library is None:
        if os.environ.get("SIE_MAX_CPU_ISA") == "none":
            return Finding("kernels", "note", "disabled by SIE_MAX_CPU_ISA=none")
        built = library_path().exists()
        advice = "Install it again; it may have been built from other sources, or for another machine."
        if not built:
            advice = "Install a C++ compiler, such as g++, and then the server again. Without them it is slow."
        return Finding("kernels", "problem", "can't be loaded" if built else "not built", advice)
    level = ("portable", "AVX2", *["AVX-512"] * 2, *["AVX-512 and AVX512-BF16"] * 2)[vector_isa_level()]
    linear = ("", " and AVX-VNNI", *[" and AVX512-VNNI"] * 2, ", AVX512-VNNI and AMX")[linear_isa_level()]
    return Finding("kernels", "ok", level + linear, facts={"vector": vector_isa_level(), "linear": linear_isa_level()})


def _device(place: "torch.device") -> Finding:
    import torch

    facts = {"device": str(place), "torch": str(torch.__version__)}
    if place.type == "cuda":
        return Finding("device", "ok", f"{place}: {torch.cuda.get_device_name(place)}", facts=facts)
    if torch.version.cuda is None and Path("/proc/driver/nvidia/version").exists():
        advice = "Install the build with CUDA: make clean install TORCH=default"
        return Finding(
            "device",
            "note",
            f"cpu: there is a GPU, but torch {torch.__version__} was built without CUDA",
            advice,
            facts,
        )
    return Finding("device", "ok", f"cpu, torch {torch.__version__}", facts=facts)


def _precisions(place: "torch.device", precision: ChosenPrecision, measure: bool) -> Iterator[Finding]:
    """Yield the choice, and what int8 would bring."""
    from sie_server.nn.precision import choose_precision
    from sie_server.nn.precision_rates import forget_rates, kept_rates

    if measure:
        forget_rates()
    try:
        auto, choice = choose_precision("auto", place), choose_precision(precision, place)
    except ValueError as error:
        yield Finding("precision", "problem", str(error))
        return
    facts = {"precision": choice.name, "setting": precision, "reason": choice.reason, "tokens_per_second": choice.rates}
    yield Finding("precision", "ok", choice.described(), facts=facts)
    try:
        choose_precision("int8", place)
    except ValueError as error:
        yield Finding("int8", "ok", str(error))
        return
    rates = kept_rates((auto.name, "int8"), auto.dtype)
    ratio = rates["int8"] / rates[auto.name]
    text = f"{ratio:.2f} times as fast as auto ({auto.name}), and less exact: docs/architecture.md, Precision"
    yield Finding("int8", "ok", text, facts={"tokens_per_second": rates, "ratio": ratio})


def _models() -> Finding:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    from sie_server.catalog.catalog import shipped
    from sie_server.checkpoints.source import on_this_machine

    entries = shipped().values()
    here = [entry.id for entry in entries if on_this_machine(entry)]
    text = f"{len(here)} of {len(entries)} of the catalogue are on this machine; the cache is {HF_HUB_CACHE}"
    facts = {"here": here, "cache": str(HF_HUB_CACHE), "offline": HF_HUB_OFFLINE}
    if HF_HUB_OFFLINE:
        return Finding("models", "note", text, "HF_HUB_OFFLINE is set: no other model can be downloaded.", facts)
    return Finding("models", "ok", text, facts=facts)


def _print(findings: list[Finding]) -> None:
    out = console()
    out.print(f"sie-server {__version__}, Python {platform.python_version()}", highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        color = _COLORS[finding.status]
        text = escape(finding.text) + (f"\n[dim]{escape(finding.advice)}[/dim]" if finding.advice else "")
        table.add_row(f"[{color}]{finding.status}[/{color}]", finding.name, text)
    out.print(table, highlight=False)
