"""`sie-server models`: lists, shows, downloads and verifies models."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from sie_server.catalog.catalog import Entry, did_you_mean, parse, shipped, with_models
from sie_server.catalog.describe import count, kind, meaning, size
from sie_server.checkpoints.source import locate, on_this_machine
from sie_server.cli.output import Json, console, print_json
from sie_server.errors import LoadError, SIEError
from sie_server.settings import ChosenPrecision, Device, ExtraModels

if TYPE_CHECKING:
    from sie_server.score_check import Outcome

app = cyclopts.App(name="models", help="List, show, download and check models.")

# Exit statuses of `verify`.
_PASSED, _FAILED, _NOTHING_TO_COMPARE = 0, 1, 2


@app.command(name="list")
def list_models(*, model: ExtraModels = (), as_json: Json = False) -> int:
    """List the models of the catalogue and additional ones.

    Parameters
    ----------
    model
        Additional model: a hub id, a folder, or NAME=FOLDER. Repeatable.
    as_json
        Print JSON.
    """
    try:
        facts = [_facts(entry) for entry in with_models(shipped(), model).values()]
    except (ValueError, LoadError) as error:
        return _fail(str(error))
    if as_json:
        print_json(facts)
        return 0
    table = Table("Model", "Size", "Tokens", "A score is", "Languages", "Licence", "Here", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for fact in facts:
        table.add_row(
            escape(fact["id"]),
            "" if fact["parameters"] is None else f"{count(fact['parameters'])} {fact['size']}",
            str(fact["max_length"] or ""),
            "" if fact["score"] is None else fact["score_means"],
            fact["languages"],
            fact["license"],
            "yes" if fact["local"] else "",
        )
    console().print(table)
    return 0


@app.command
def show(id_: Annotated[str, Parameter(name="MODEL")], /, *, model: ExtraModels = (), as_json: Json = False) -> int:
    """Show all facts about a model.

    Parameters
    ----------
    id_
        Id of a model, a folder, or NAME=FOLDER.
    model
        Additional model: a hub id, a folder, or NAME=FOLDER. Repeatable.
    as_json
        Print JSON.
    """
    try:
        [entry] = _chosen([id_], model)
        facts = _facts(entry)
    except (ValueError, LoadError) as error:
        return _fail(str(error))
    if as_json:
        print_json(facts)
        return 0
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, value in _lines(entry, facts):
        table.add_row(label, escape(value))
    console().print(table)
    return 0


@app.command
def pull(ids: list[str], /, *, model: ExtraModels = ()) -> int:
    """Download models and print their folders. Exits with 1 if one is unavailable.

    Parameters
    ----------
    ids
        Ids of models, folders, or NAME=FOLDER.
    model
        Additional model: a hub id, a folder, or NAME=FOLDER. Repeatable.
    """
    try:
        entries = _chosen(ids, model)
    except ValueError as error:
        return _fail(str(error))
    status = 0
    for entry in entries:
        try:
            print(f"{entry.id}: {locate(entry).folder}")
        except LoadError as error:
            status = _fail(f"{entry.id}: {error}")
    return status


@app.command
def first(ids: list[str], /) -> int:
    """Download the first available of these models, unless it is on this machine, and print its id.

    Reports why earlier ones are unavailable. Exits with 1 if none is available.

    Parameters
    ----------
    ids
        Ids of models, in order of preference.
    """
    try:
        entries = _chosen(ids, ())
    except ValueError as error:
        return _fail(str(error))
    passed: list[str] = []
    for entry in entries:
        try:
            locate(entry)
        except LoadError as error:
            passed.append(str(error))
            continue
        for reason in passed:
            print(f"using {entry.id}: {reason}", file=sys.stderr)
        print(entry.id)
        return 0
    return _fail("\n".join(passed))


@app.command
def verify(
    ids: list[str],
    /,
    *,
    model: ExtraModels = (),
    device: Device = "auto",
    precision: ChosenPrecision = "auto",
    as_json: Json = False,
) -> int:
    """Compare models with their published scores.

    Exits with 0 if all agree, 1 if one differs or fails to load, 2 if there are no scores to compare with.

    Parameters
    ----------
    ids
        Ids of models.
    model
        Additional model: a hub id, a folder, or NAME=FOLDER. Repeatable.
    device
        cpu, cuda, cuda:N, or auto: CUDA if available.
    precision
        Precision of matrix products; auto: the fastest here of float32 and bfloat16. int8: CPU only.
    as_json
        Print JSON.
    """
    from sie_server.checkpoints.load import load
    from sie_server.nn.device import resolve_device
    from sie_server.nn.precision import dtype_name
    from sie_server.score_check import verify as outcomes_of

    try:
        entries = _chosen(ids, model)
        place = resolve_device(device)
    except ValueError as error:
        return _fail(str(error))
    reports: list[dict[str, Any]] = []
    for entry in entries:
        report: dict[str, Any] = {"id": entry.id, "status": _NOTHING_TO_COMPARE, "examples": []}
        reports.append(report)
        if entry.examples:
            try:
                loaded = load(entry, place, precision)
                outcomes = outcomes_of(loaded)
            except (ValueError, LoadError, SIEError) as error:
                report |= {"status": _FAILED, "error": str(error)}
                continue
            report["precision"] = dtype_name(loaded.dtype)
            report["status"] = _PASSED if all(outcome.passed for outcome in outcomes) else _FAILED
            report["examples"] = [_outcome(outcome) for outcome in outcomes]
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            _print_report(report)
    statuses = {report["status"] for report in reports}
    return next(status for status in (_FAILED, _NOTHING_TO_COMPARE, _PASSED) if status in statuses)


def _chosen(ids: list[str], models: tuple[str, ...]) -> list[Entry]:
    """The entries of these ids.

    Raises:
        ValueError: an id is unknown, or a folder does not exist.
    """
    known = with_models(shipped(), models)
    entries = [parse(id_, known) for id_ in ids]
    for entry in entries:
        if entry.id not in known and entry.folder is None:
            raise ValueError(
                f"'{entry.id}' is not in the catalogue.{did_you_mean(entry.id, known)} "
                f"A model of the hub can be added: --model {entry.id}"
            )
    return entries


def _facts(entry: Entry) -> dict[str, Any]:
    """Everything about a model, ready for JSON.

    Raises:
        UnsupportedModelError: an installed package carries weights with the wrong checksum.
    """
    fault = None
    if entry.folder is not None:
        # A folder is described by its own files, and reading them needs torch.
        from sie_server.checkpoints.description import inspect

        entry, fault = inspect(entry)
    local = on_this_machine(entry)
    return {
        **{key: value for key, value in asdict(entry).items() if key not in ("folder", "package", "sha256")},
        "kind": kind(entry),
        "size": None if entry.parameters is None else size(entry.parameters),
        "score_means": meaning(entry),
        "fault": None if fault is None else str(fault),
        "local": None if local is None else str(local),
    }


def _lines(entry: Entry, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Labels and values that `show` prints, without unknown ones."""
    parameters, limit = facts["parameters"], facts["max_length"]
    rejects = facts["long_documents"] == "error"
    lines = [
        ("model", facts["id"]),
        ("cannot be served", facts["fault"]),
        ("kind", facts["kind"]),
        ("a score is", facts["score_means"]),
        ("limit", limit and f"{limit} tokens; a longer document is {'refused' if rejects else 'cut'}"),
        ("languages", facts["languages"]),
        ("licence", facts["license"]),
        ("architecture", facts["architecture"]),
        ("parameters", parameters and f"{count(parameters)} ({facts['size']})"),
        ("prompt", facts["prompt"]),
        ("instruction", facts["instruction"] or facts["default_instruction"]),
        ("query template", facts["query_template"]),
        ("doc template", facts["doc_template"]),
        ("outputs", ", ".join(facts["outputs"] or ())),
        ("dimensions", facts["dims"] and str(facts["dims"])),
        ("pooling", facts["pooling"]),
        ("profiles", ", ".join(facts["profiles"])),
        ("revision", facts["revision"] or ("" if entry.folder else "not pinned: the default branch")),
        ("published scores", str(sum(len(example.scores) for example in entry.examples) or "none")),
        ("here", facts["local"] or "no; `sie-server models pull` fetches it"),
    ]
    return [(label, value) for label, value in lines if value]


def _outcome(outcome: "Outcome") -> dict[str, Any]:
    return {
        **asdict(outcome),
        "passed": outcome.passed,
        "compared": [
            {**asdict(pair), "difference": pair.difference, "passed": pair.passed} for pair in outcome.compared
        ],
    }


def _print_report(report: dict[str, Any]) -> None:
    out = console()
    verdict = {_PASSED: "pass", _FAILED: "FAIL", _NOTHING_TO_COMPARE: "no published scores to compare with"}
    precision = f" ({report['precision']})" if "precision" in report else ""
    out.print(f"{escape(report['id'])}{precision}: {verdict[report['status']]}", highlight=False)
    if "error" in report:
        _fail(f"{report['id']}: {report['error']}")
    for example in report["examples"]:
        table = Table("Expected", "Got", "Difference", "Allowed", "", "Document", box=None, pad_edge=False)
        for pair in example["compared"]:
            numbers = (f"{pair[key]:.5f}" for key in ("expected", "got", "difference", "tolerance"))
            table.add_row(*numbers, "ok" if pair["passed"] else "DIFFERS", escape(pair["document"]))
        out.print(f"\n{escape(example['query'])}  [dim]{escape(example['source'])}[/dim]", highlight=False)
        out.print(table)
        if not example["ordered"]:
            out.print("The documents are ranked in a different order.")


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1
