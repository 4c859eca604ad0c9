"""Tables of models by task, from the catalogue and the measured speed."""

from collections.abc import Callable, Iterable, Iterator

from measured_speed import rates

from sie_server.catalog.catalog import Entry, shipped
from sie_server.catalog.describe import SIZES, count, kind, size
from sie_server.checkpoints.prompts import prompts

Choice = Callable[[Entry], bool]

# From here on, a limit holds several pages.
_LONG = 4096


def parts() -> dict[str, str]:
    """The generated parts of docs/choose-a-model.md."""
    entries = shipped().values()
    restricted = [f"- `{entry.id}`: {entry.license}" for entry in entries if "-nc-" in (entry.license or "")]
    bounds = [f"| {name} | up to {bound // 1_000_000:,} million |" for name, bound in SIZES.items()]
    return {
        "sizes": "\n".join(["| Size | Parameters |", "|---|---|", *bounds, "| xl | more |"]),
        "rates": rates(),
        "restricted": "\n".join(restricted),
        **{name: "\n".join(_rows(filter(chosen, entries))) for name, chosen in _CHOICES.items()},
    }


def _reranks(entry: Entry) -> bool:
    return entry.score is not None


def _is_english(entry: Entry) -> bool:
    return entry.languages == "English"


def _is_late(entry: Entry) -> bool:
    return "multivector" in (entry.outputs or ())


def _follows_instructions(entry: Entry) -> bool:
    return entry.prompt is not None and prompts()[entry.prompt].slot is not None


_CHOICES: dict[str, Choice] = {
    "english": lambda entry: _reranks(entry) and _is_english(entry) and not _is_late(entry),
    "other": lambda entry: _reranks(entry) and not _is_english(entry) and not _is_late(entry),
    "long": lambda entry: _reranks(entry) and (entry.max_length or 0) >= _LONG,
    "instructed": _follows_instructions,
    "late": _is_late,
    "embeddings": lambda entry: "dense" in (entry.outputs or ()) or "sparse" in (entry.outputs or ()),
}


def _rows(entries: Iterable[Entry]) -> Iterator[str]:
    yield "| Model | Kind | Size | Limit (tokens) | Languages | License |"
    yield "|---|---|---|---|---|---|"
    for entry in sorted(entries, key=lambda entry: entry.parameters or 0):
        assert entry.parameters is not None
        cells = (
            f"`{entry.id}`",
            kind(entry),
            f"{size(entry.parameters)}, {count(entry.parameters)}",
            f"{entry.max_length:,}",
            entry.languages or "",
            entry.license or "",
        )
        yield f"| {' | '.join(cells)} |"
