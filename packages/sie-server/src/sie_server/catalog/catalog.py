"""Which models this server knows: the catalogue that ships with it, and those an operator adds."""

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

# Characters of an id that similar ones are looked for; the longest names of a hub have half of that.
_MOST_COMPARED = 200


@dataclass(frozen=True)
class Example:
    """Scores somebody published, one per document, in the model's own unit.

    source: who published them. precision: what they were computed in.
    """

    query: str
    documents: tuple[str, ...]
    scores: tuple[float, ...]
    source: str
    precision: Literal["float32", "float16", "bfloat16"] = "float32"


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a request that names it means where it says nothing itself: the options of a request, by their names.

    output_types: also what the model is listed with under the profile's name. output_dtype: of `/v1/encode`.
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
        """Raises ValueError for a template that can't be filled."""
        for template in (self.query_template, self.doc_template):
            fill(template, (), None)


@dataclass(frozen=True)
class Entry:
    """A model as the operator or the catalogue names it. `None` means: as its own config files say.

    id: name on the wire. repository: hub id. folder: local checkpoint; set, the hub is never asked.
    architecture: its name in `config.json`. parameters: how many, about. languages: in words.
    score: what a score is. dims: width of an embedding, or of a token's; matryoshka: the smaller widths it was trained
    to be cut to, or true for any. sparse_dims: width of a sparse vector. max_length: tokens, special ones included.
    late_interaction: fields of `LateInteraction` in place of what the checkpoint's files say. pickled: the repository
    has no safetensors; its pickled tensors are read with torch's weights-only loader, which builds tensors and no more.
    prompt: name in `prompts.toml`. instruction: the prompt's default, where the model has one of its own.
    query_template, doc_template: what an encoder reads for a query and for a document, as
    `tokenization/text_templates.py` says; default_instruction: what fills their slot.
    long_documents: what becomes of one over the limit by default.
    profiles: by name; "default" is that of requests that name none, and empty unless it is here.
    examples: scores to check the model against. package: `module/path` of a Python package with the same files.
    sha256: of that package's `model.safetensors`.
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
        """Raises ValueError for a template that can't be filled."""
        for template in (self.query_template, self.doc_template):
            fill(template, (), None)

    @cached_property
    def source(self) -> str:
        """What to call the checkpoint's origin in messages."""
        return str(self.folder or self.repository)

    @property
    def widths(self) -> dict[str, int]:
        """How wide each kind of embedding is that the model is known to give."""
        widths = {"dense": self.dims, "sparse": self.sparse_dims, "multivector": self.dims}
        return {output: width for output in self.outputs or () if (width := widths.get(output)) is not None}

    @cached_property
    def every_profile(self) -> dict[str, Profile]:
        """The profiles with "default", which comes first."""
        return {"default": Profile(), **self.profiles}


def address(model_id: str, profile: str) -> str:
    """The id that names a profile of a model as if it were a model of its own: `id:profile`, or `id` for "default"."""
    return model_id if profile == "default" else f"{model_id}:{profile}"


def shipped() -> dict[str, Entry]:
    """The entries of `catalog.toml`, by id, with their examples of `examples.toml`."""
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
    """Those that clients may have loaded: `all`, `none`, or those of a list `ID,ID`; and in any case those `named`.

    Raises:
        ValueError: the list has a model that the catalogue has not.
    """
    if catalogue == "all":
        return entries
    listed = [] if catalogue == "none" else [part for each in catalogue.split(",") if (part := each.strip())]
    for model_id in listed:
        if model_id not in entries:
            raise ValueError(
                f"--catalogue {model_id}: not in the catalogue.{did_you_mean(model_id, entries)} "
                "It takes all, none, or ids of its models with commas between them."
            )
    allowed = {*listed, *named}
    return {model_id: entry for model_id, entry in entries.items() if model_id in allowed}


def with_models(entries: dict[str, Entry], models: Iterable[str], prompts: Iterable[str] = ()) -> dict[str, Entry]:
    """The catalogue plus models given as `ID`, `PATH` or `NAME=PATH`, with prompts given as `NAME=PROMPT`.

    A folder is served under `NAME`, or under its last path component.

    Raises:
        ValueError: two models claim one name, a path given by name does not exist, or a prompt is given to no model.
    """
    result = dict(entries)
    for model in models:
        try:
            entry = parse(model, entries)
        except ValueError as error:
            raise ValueError(f"--model {model}: {error}") from None
        taken = {address(id_, name) for id_, other in result.items() for name in other.every_profile}
        if entry.id in taken and result.get(entry.id) != entry:
            raise ValueError(f"--model {model}: the name {entry.id!r} is taken; give another one as NAME=PATH")
        result[entry.id] = entry
    for given in prompts:
        name, _, prompt = given.rpartition("=")
        if not prompt or name not in result:
            hint = did_you_mean(name, result)
            raise ValueError(f"--prompt {given}: NAME=PROMPT is needed, NAME being a model that is served.{hint}")
        result[name] = replace(result[name], prompt=prompt)
    return result


def parse(model: str, known: dict[str, Entry]) -> Entry:
    """The entry that `ID`, `PATH` or `NAME=PATH` stands for.

    Raises:
        ValueError: it is meant as a path and there is no such folder.
    """
    if model in known:
        return known[model]
    name, separator, path = model.rpartition("=")
    folder = Path(path).expanduser()
    if not is_text(model):
        raise ValueError("its name is not UTF-8")
    if path and folder.is_dir():
        return Entry(id=name or folder.resolve().name, folder=folder.resolve())
    # A hub id is `name` or `owner/name`; whatever else was typed was meant as a folder.
    if separator or path.startswith((".", "/", "~")) or path.count("/") > 1 or not path:
        raise ValueError(f"no such folder: {folder}")
    return Entry(id=model, repository=model)


def is_text(name: str) -> bool:
    """Whether a name can be written in UTF-8, which one made of other bytes can't."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def did_you_mean(model_id: str, known: Iterable[str]) -> str:
    """A hint at up to three similar names, to be put behind a sentence; empty where there is none."""
    # The time that comparing takes grows with the square of the length.
    if len(model_id) > _MOST_COMPARED:
        return ""
    close = get_close_matches(model_id, known, n=3, cutoff=0.6)
    return f" Did you mean {', '.join(map(repr, close))}?" if close else ""


def _read(name: str) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.toml.decode(files("sie_server.catalog").joinpath(name).read_bytes())
    return table
