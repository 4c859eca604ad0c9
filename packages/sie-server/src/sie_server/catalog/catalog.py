"""The catalogue: models that ship with the server, and models that an operator adds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec

from sie_server.options import Dtype, LongDocuments, Muvera, Output, Pooling, Score, ScoreMode
from sie_server.tokenization.text_templates import fill

# Longest id to suggest similar ids for, in characters; twice the limit of the hub.
_MAX_COMPARED = 200


@dataclass(frozen=True)
class Example:
    """Published scores of one query's documents, in the model's unit.

    source: where they were published. precision: in which they were computed.
    """

    query: str
    documents: tuple[str, ...]
    scores: tuple[float, ...]
    source: str
    precision: Literal["float32", "float16", "bfloat16"] = "float32"


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Default options for requests that select this profile, by the names of the options.

    output_types: also the outputs listed for the profile. output_dtype: for `/v1/encode` only.
    """

    output_types: tuple[Output, ...] | None = None
    output_dtype: Dtype | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    instruction: str | None = None
    query_template: str | None = None
    doc_template: str | None = None
    default_instruction: str | None = None
    max_seq_length: int | None = None
    query_max_length: int | None = None
    long_documents: LongDocuments | None = None
    score_mode: ScoreMode | None = None
    muvera: Muvera | None = None

    def __post_init__(self) -> None:
        """Check the templates; raises ValueError for one that can't be rendered."""
        for template in (self.query_template, self.doc_template):
            fill(template, (), None)


NO_DEFAULTS = Profile()


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue, or one that the operator added. `None` means: as the checkpoint's config files say.

    id: name in requests.
    repository: id on the hub.
    folder: local checkpoint, used instead of the repository if there is one, of which it must hold such a model.
    architecture: name in `config.json`.
    parameters: approximate number of parameters.
    languages: description of its languages.
    score: unit of its scores.
    dims: width of an embedding, or of a token's vector.
    matryoshka: smaller widths to which embeddings can be cut, or true for any.
    sparse_dims: width of a sparse vector.
    max_length: limit in tokens, including special tokens.
    late_interaction: fields of `LateInteraction` that replace those of the checkpoint's files.
    pickled: whether the repository has no safetensors; tensors are then unpickled by torch's weights-only loader.
    prompt: name in `prompts.toml`.
    instruction: replaces the prompt's default instruction.
    query_template, doc_template: text templates of an encoder (`tokenization/text_templates.py`).
    default_instruction: fills their instruction slot.
    long_documents: default for documents over the limit.
    profiles: profiles by name; "default" is used by requests that name none.
    examples: published scores to check the model against.
    package: `module/path` in a Python package with the same files.
    sha256: hash of that package's `model.safetensors`.
    """

    id: str
    repository: str = ""
    revision: str | None = None
    folder: Path | None = None
    architecture: str | None = None
    parameters: int | None = None
    languages: str | None = None
    outputs: tuple[Output, ...] | None = None
    score: Score | None = None
    dims: int | None = None
    matryoshka: bool | tuple[int, ...] = False
    sparse_dims: int | None = None
    max_length: int | None = None
    late_interaction: dict[str, Any] = field(default_factory=dict)
    pickled: bool = False
    pooling: Pooling | None = None
    prompt: str | None = None
    instruction: str | None = None
    query_template: str | None = None
    doc_template: str | None = None
    default_instruction: str | None = None
    long_documents: LongDocuments = "truncate"
    license: str | None = None
    package: str | None = None
    sha256: str | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()

    def __post_init__(self) -> None:
        """Check the templates; raises ValueError for one that can't be rendered."""
        for template in (self.query_template, self.doc_template):
            fill(template, (), None)

    def from_folder(self, folder: Path) -> "Entry":
        """The entry with a folder's files in place of its repository's. Sizes are then those of the files."""
        return replace(
            self, folder=folder, revision=None, package=None, sha256=None, parameters=None, dims=None, sparse_dims=None
        )

    @cached_property
    def source(self) -> str:
        """Name of the checkpoint's origin in messages."""
        return str(self.folder or self.repository)

    @property
    def widths(self) -> dict[str, int]:
        """Known widths of the model's embeddings, by output."""
        widths = {"dense": self.dims, "sparse": self.sparse_dims, "multivector": self.dims}
        return {output: width for output in self.outputs or () if (width := widths.get(output)) is not None}

    @cached_property
    def every_profile(self) -> dict[str, Profile]:
        """All profiles, "default" first."""
        return {"default": NO_DEFAULTS, **self.profiles}


def address(model_id: str, profile: str) -> str:
    """Id of a profile of a model: `id:profile`, or `id` for "default"."""
    return model_id if profile == "default" else f"{model_id}:{profile}"


def shipped() -> dict[str, Entry]:
    """Read the entries of `catalog.toml`, by id, with their examples from `examples.toml`."""
    examples: dict[str, list[Example]] = {}
    for published in _read("examples.toml")["examples"]:
        for model_id, scores in published["scores"].items():
            example = msgspec.convert({**published, "scores": scores}, Example)
            examples.setdefault(model_id, []).append(example)
    return {
        model_id: msgspec.convert(
            {"id": model_id, "repository": model_id, "examples": examples.get(model_id, ()), **fields}, Entry
        )
        for model_id, fields in _read("catalog.toml").items()
    }


def offered(entries: dict[str, Entry], catalogue: str, named: Iterable[str]) -> dict[str, Entry]:
    """Restrict a catalogue to models that clients may use: `all`, `none` or a list `ID,ID`, and always those `named`.

    named: ids, which may have a profile, `ID:PROFILE`.

    Raises:
        ValueError: the list has a model that is not in the catalogue.
    """
    if catalogue == "all":
        return entries
    listed = [] if catalogue == "none" else [part for item in catalogue.split(",") if (part := item.strip())]
    for model_id in listed:
        if model_id not in entries:
            raise ValueError(
                f"--catalogue {model_id}: not in the catalogue.{did_you_mean(model_id, entries)} "
                "Expected all, none, or a comma-separated list of its ids."
            )
    allowed = {*listed, *named}
    return {
        model_id: entry
        for model_id, entry in entries.items()
        if model_id in allowed or not allowed.isdisjoint(address(model_id, name) for name in entry.every_profile)
    }


def with_models(entries: dict[str, Entry], models: Iterable[str], prompts: Iterable[str] = ()) -> dict[str, Entry]:
    """Add models given as `ID`, `PATH` or `NAME=PATH` to a catalogue, and set prompts given as `NAME=PROMPT`.

    A folder is served under `NAME`, by default its last path component. If that is a model of the catalogue, its
    entry's settings apply to the folder.

    Raises:
        ValueError: two models have the same name, a folder does not exist, or a prompt names no model.
    """
    result = dict(entries)
    for model in models:
        if model in entries:  # it has its place, and perhaps a folder from another assignment
            continue
        try:
            entry = parse(model, entries)
        except ValueError as error:
            raise ValueError(f"--model {model}: {error}") from None
        taken = {address(id_, name) for id_, other in result.items() for name in other.every_profile}
        if entry.id in taken and not _may_replace(entry, result.get(entry.id)):
            raise ValueError(f"--model {model}: the name {entry.id!r} is taken; choose another as NAME=PATH")
        result[entry.id] = entry
    for assignment in prompts:
        name, _, prompt = assignment.rpartition("=")
        if not prompt or name not in result:
            hint = did_you_mean(name, result)
            raise ValueError(
                f"--prompt {assignment}: expected NAME=PROMPT, where NAME is a model that is served.{hint}"
            )
        result[name] = replace(result[name], prompt=prompt)
    return result


def _may_replace(entry: Entry, other: Entry | None) -> bool:
    """Whether an entry is the other one, which has its name, or has a folder for that model of the catalogue."""
    if entry == other or other is None or other.folder is not None:
        return entry == other
    return entry.folder is not None and entry == other.from_folder(entry.folder)


def parse(model: str, known: dict[str, Entry]) -> Entry:
    """Make an entry of `ID`, `PATH` or `NAME=PATH`, where `NAME` may be an `ID`.

    Raises:
        ValueError: it is a path, and there is no such folder.
    """
    if model in known:
        return known[model]
    name, separator, path = model.rpartition("=")
    folder = Path(path).expanduser()
    if not is_text(model):
        raise ValueError("the name is not UTF-8")
    if path and folder.is_dir():
        if name in known and known[name].folder is None:
            return known[name].from_folder(folder.resolve())
        return Entry(id=name or folder.resolve().name, folder=folder.resolve())
    # A hub id is `name` or `owner/name`; anything else is a path.
    if separator or path.startswith((".", "/", "~")) or path.count("/") > 1 or not path:
        raise ValueError(f"no such folder: {folder}")
    return Entry(id=model, repository=model)


def parse_known(model: str, known: dict[str, Entry]) -> Entry:
    """As `parse`, but without ids that are not known.

    Raises:
        ValueError: it is a path, and there is no such folder; or it is an id that is not known.
    """
    entry = parse(model, known)
    if entry.id not in known and entry.folder is None:
        raise ValueError(f"'{entry.id}' is not in the catalogue.{did_you_mean(entry.id, known)}")
    return entry


def is_text(name: str) -> bool:
    """Whether a name can be encoded in UTF-8, which one from undecodable bytes can't."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def did_you_mean(model_id: str, known: Iterable[str]) -> str:
    """A sentence that suggests up to three similar names, with a leading space; empty if there are none."""
    # Comparing takes quadratic time.
    if len(model_id) > _MAX_COMPARED:
        return ""
    close = get_close_matches(model_id, known, n=3, cutoff=0.6)
    return f" Did you mean {', '.join(map(repr, close))}?" if close else ""


def _read(name: str) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.toml.decode(files("sie_server.catalog").joinpath(name).read_bytes())
    return table
