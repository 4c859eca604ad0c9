"""Which models this server knows: the catalogue that ships with it, and those an operator adds."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec

from sie_server.nn.heads import Pooling

Output = Literal["dense", "multivector", "score"]
Score = Literal["probability", "logit", "maxsim"]


@dataclass(frozen=True)
class Entry:
    """A model as the operator or the catalogue names it. `None` means: as its own config files say.

    id: name on the wire. repository: hub id. folder: local checkpoint; set, the hub is never asked.
    prompt: name in `prompts.toml`. instruction: the prompt's default, where the model has one of its own.
    score: what a score is. dims: width of an embedding. max_length: tokens, special ones included.
    package: `module/path` of a Python package with the same files. sha256: of that package's `model.safetensors`.
    """

    id: str
    repository: str = ""
    revision: str | None = None
    folder: Path | None = None
    outputs: tuple[Output, ...] | None = None
    score: Score | None = None
    dims: int | None = None
    max_length: int | None = None
    pooling: Pooling | None = None
    license: str | None = None
    prompt: str | None = None
    instruction: str | None = None
    package: str | None = None
    sha256: str | None = None

    @cached_property
    def source(self) -> str:
        """What to call the checkpoint's origin in messages."""
        return str(self.folder or self.repository)


def shipped() -> dict[str, Entry]:
    """The entries of `catalog.toml`, by id."""
    text = files("sie_server.models").joinpath("catalog.toml").read_bytes()
    entries = msgspec.toml.decode(text, type=dict[str, dict[str, object]])
    return {
        model_id: msgspec.convert({"id": model_id, "repository": model_id, **fields}, Entry)
        for model_id, fields in entries.items()
    }


def with_models(entries: dict[str, Entry], models: Iterable[str]) -> dict[str, Entry]:
    """The catalogue plus models given as `ID`, `PATH` or `NAME=PATH`.

    A folder is served under `NAME`, or under its last path component.

    Raises:
        ValueError: two models claim one name, or a path given by name does not exist.
    """
    result = dict(entries)
    for model in models:
        entry = _parse(model, entries)
        if entry.id in result and result[entry.id] != entry:
            raise ValueError(f"--model {model}: the name {entry.id!r} is taken; give another one as NAME=PATH")
        result[entry.id] = entry
    return result


def _parse(model: str, known: dict[str, Entry]) -> Entry:
    if model in known:
        return known[model]
    name, separator, path = model.rpartition("=")
    folder = Path(path).expanduser()
    if path and folder.is_dir():
        return Entry(id=name or folder.resolve().name, folder=folder.resolve())
    # A hub id is `name` or `owner/name`; whatever else was typed was meant as a folder.
    if separator or path.startswith((".", "/", "~")) or path.count("/") > 1 or not path:
        raise ValueError(f"--model {model}: no such folder: {folder}")
    return Entry(id=model, repository=model)
