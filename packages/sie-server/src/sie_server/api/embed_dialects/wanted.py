"""The embeddings that a request asks for, in the fields of any API."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from sie_server.api.embed_dialects.fields import EmbeddingsRequest, EmbeddingType, EmbedFields
from sie_server.errors import Code, SIEError
from sie_server.options import Dtype, Output, Side

T = TypeVar("T")
# Values of `input_type` (Cohere, Voyage, NIM), `task` (Jina) and `prompt_name` (TEI): whether the texts are queries.
_IS_QUERY: Mapping[str, bool] = {
    **dict.fromkeys(("query", "search_query", "retrieval.query"), True),
    **dict.fromkeys(("document", "passage", "search_document", "retrieval.passage"), False),
}
_SIDE_FIELDS = ("truncation_direction", "truncation_side")
_DTYPES: Mapping[str, Dtype] = {
    "float": "float32",
    "int8": "int8",
    "uint8": "uint8",
    "binary": "binary",
    "ubinary": "ubinary",
}
# Values of `truncate`: whether texts over the length limit are cut, and the end at which other fields cut them.
_CUT: Mapping[str | bool, bool] = {True: True, False: False, "END": True, "START": True, "NONE": False}
_SIDES: Mapping[str, Side] = {"LEFT": "left", "RIGHT": "right", "START": "left", "END": "right"}


@dataclass(frozen=True, slots=True)
class Numbers:
    """A form of the numbers of vectors. kind: its name. base64: of their little-endian bytes, in place of a list."""

    kind: EmbeddingType
    dtype: Dtype
    base64: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """The embeddings that a request asks for.

    output: of the model. forms: of the numbers, one unless the API has several in an answer. named: whether the request
    names them. width: field and value of the requested number of dimensions; None: the model's. is_query: None if the
    request does not say. cut: whether texts over the limit are cut, at the end `side`. limit: on the tokens of a text;
    None: the model's. normalize: None for the model's own.
    """

    output: Output
    forms: tuple[Numbers, ...]
    named: bool
    width: tuple[str, int] | None
    is_query: bool | None
    cut: bool
    side: Side | None
    limit: int | None
    normalize: bool | None

    @property
    def dims(self) -> int | None:
        """The requested number of dimensions."""
        return None if self.width is None else self.width[1]


def wanted(
    body: EmbeddingsRequest | EmbedFields,
    output: Output,
    tasks: Mapping[str, Output] = MappingProxyType({}),
    *,
    several: bool = False,
) -> Wanted:
    """Read the fields of a request.

    output: what the API's route computes, unless `task` chooses one of `tasks`. several: whether an answer may have
    several forms of a vector.

    Raises:
        SIEError: INVALID_INPUT, a field asks for what this server does not do, or two of them contradict each other.
    """
    if body.late_chunking:
        raise _refused("late_chunking", "is not supported: each text is embedded on its own")
    roles = ["input_type", "prompt_name"]
    if not tasks:
        roles.append("task")
    elif body.task is not None:
        if body.task not in tasks:
            raise _refused("task", f"is {body.task[:100]!r}; it must be one of {', '.join(tasks)}")
        output = tasks[body.task]
    names = ("dimensions", "output_dimension", "dimension")
    query = _one((name, _is_query(name, getattr(body, name))) for name in roles)
    cut = _one([("truncation", body.truncation), ("truncate", _cut(body.truncate))])
    sides = ((name, _side(name, getattr(body, name))) for name in ("truncate", *_SIDE_FIELDS))
    side: tuple[str, Side] | None = _one(sides)
    limit = _one([("truncate_prompt_tokens", _limit(body.truncate_prompt_tokens)), ("max_tokens", body.max_tokens)])
    flags = ("normalize", "normalized", "use_activation")
    normalize = _one((name, getattr(body, name)) for name in flags)
    types = _types(body, several)
    if output != "dense":
        for name, kind in types:
            if kind != "float":
                raise _refused(name, f"asks for {kind}; this embedding has floats only")
    return Wanted(
        output=output,
        forms=_forms(types),
        named=bool(types),
        width=_one((name, getattr(body, name)) for name in names),
        is_query=None if query is None else query[1],
        cut=cut is None or cut[1],
        side=None if side is None else side[1],
        limit=None if limit is None else limit[1],
        normalize=None if normalize is None else normalize[1],
    )


def _types(body: EmbeddingsRequest | EmbedFields, several: bool) -> list[tuple[str, EmbeddingType]]:
    """The fields that name types of numbers, with each type."""
    found: list[tuple[str, EmbeddingType]] = []
    for name in ("output_dtype", "embedding_type", "embedding_types", "encoding_format"):
        value = getattr(body, name)
        values = value if isinstance(value, list) else [value] if value is not None else []
        if isinstance(value, list) and len(value) != 1 and not (several and value):
            raise _refused(name, f"must name one type, as an answer has one vector per text; it names {len(value)}")
        # A list of numbers of whatever type, where a client can also choose their bytes.
        if (name, values) != ("encoding_format", ["float"]):
            found += [(name, kind) for kind in values]
    return found


def _forms(types: list[tuple[str, EmbeddingType]]) -> tuple[Numbers, ...]:
    if len({name for name, _ in types}) == 1 and len(types) > 1:
        kinds = dict.fromkeys(kind for _, kind in types)
        return tuple(Numbers(kind, _DTYPES.get(kind, "float32"), kind == "base64") for kind in kinds)
    kind: tuple[str, EmbeddingType] | None = _one((name, kind) for name, kind in types if kind != "base64")
    base64 = any(kind == "base64" for _, kind in types)
    if kind is None:
        return (Numbers("base64" if base64 else "float", "float32", base64),)
    return (Numbers(kind[1], _DTYPES[kind[1]], base64),)


def _is_query(name: str, value: str | None) -> bool | None:
    if value is not None and value not in _IS_QUERY:
        raise _refused(name, f"is {value[:100]!r}; it must be one of {', '.join(_IS_QUERY)}")
    return None if value is None else _IS_QUERY[value]


def _cut(value: str | bool | None) -> bool | None:
    known = value.upper() if isinstance(value, str) else value
    if known is not None and known not in _CUT:
        raise _refused("truncate", f"is {str(value)[:100]!r}; it must be true, false, START, END or NONE")
    return None if known is None else _CUT[known]


def _side(name: str, value: str | bool | None) -> Side | None:
    if not isinstance(value, str):
        return None
    if name != "truncate" and value.upper() not in _SIDES:
        raise _refused(name, f"is {value[:100]!r}; it must be left or right")
    return _SIDES.get(value.upper())


def _limit(value: int | None) -> int | None:
    if value == 0:
        raise _refused("truncate_prompt_tokens", "must be -1 or positive")
    return None if value == -1 else value


def _one(given: Iterable[tuple[str, T | None]]) -> tuple[str, T] | None:
    """The field that has a value, with its value.

    Raises:
        SIEError: INVALID_INPUT, two fields have different ones.
    """
    found: tuple[str, T] | None = None
    for name, value in given:
        if value is None:
            continue
        if found is not None and found[1] != value:
            raise _refused(name, f"is {value!r}, but field '{found[0]}' asks for {found[1]!r}")
        found = found or (name, value)
    return found


def _refused(name: str, why: str) -> SIEError:
    return SIEError(Code.INVALID_INPUT, f"Field '{name}' {why}", param=name)
