"""The embeddings that a request asks for, in the fields of any API."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sie_server import wire
from sie_server.errors import Code, SIEError
from sie_server.options import Dtype

T = TypeVar("T")
# Values of `input_type` (Cohere, Voyage, NIM), `task` (Jina) and `prompt_name` (TEI): whether the texts are queries.
_IS_QUERY: Mapping[str, bool] = {
    **dict.fromkeys(("query", "search_query", "retrieval.query"), True),
    **dict.fromkeys(("document", "passage", "search_document", "retrieval.passage"), False),
}
_DTYPES: Mapping[str, Dtype] = {
    "float": "float32",
    "int8": "int8",
    "uint8": "uint8",
    "binary": "binary",
    "ubinary": "ubinary",
}
# Values of `truncate`: whether texts over the length limit are cut. All cut them at the end.
_CUT: Mapping[str | bool, bool] = {True: True, False: False, "END": True, "RIGHT": True, "NONE": False}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The embeddings that a request asks for.

    dtype: of the numbers. base64: of their little-endian bytes, in place of a list. width: field and value of the
    requested number of dimensions; None: the model's. is_query: None if the request does not say. cut: whether texts
    over the limit are cut. limit: on the tokens of a text; None: the model's. normalize: None for the model's own.
    """

    dtype: Dtype
    base64: bool
    width: tuple[str, int] | None
    is_query: bool | None
    cut: bool
    limit: int | None
    normalize: bool | None

    @property
    def dims(self) -> int | None:
        """The requested number of dimensions."""
        return None if self.width is None else self.width[1]


def wanted(body: wire.EmbeddingsRequest) -> Wanted:
    """Read the fields of a request.

    Raises:
        SIEError: INVALID_INPUT, a field asks for what this server does not do, or two of them contradict each other.
    """
    if body.late_chunking:
        raise _refused("late_chunking", "is not supported: each text is embedded on its own")
    types = _types(body)
    width = _one([("dimensions", body.dimensions), ("output_dimension", body.output_dimension)])
    dtype: tuple[str, Dtype] | None = _one([(name, _DTYPES[kind]) for name, kind in types if kind != "base64"])
    normalize = _one([("normalize", body.normalize), ("normalized", body.normalized)])
    query = _one([(name, _is_query(name, getattr(body, name))) for name in ("input_type", "task", "prompt_name")])
    cut = _one([("truncation", body.truncation), ("truncate", _cut(body.truncate))])
    return Wanted(
        dtype="float32" if dtype is None else dtype[1],
        base64=body.encoding_format == "base64" or any(kind == "base64" for _, kind in types),
        width=width,
        is_query=None if query is None else query[1],
        cut=cut is None or cut[1],
        limit=None if body.truncate_prompt_tokens in (None, -1) else _positive(body.truncate_prompt_tokens),
        normalize=None if normalize is None else normalize[1],
    )


def _types(body: wire.EmbeddingsRequest) -> list[tuple[str, wire.EmbeddingType]]:
    """The fields that name a type of numbers, with the type."""
    given: list[tuple[str, wire.EmbeddingType]] = []
    if body.output_dtype is not None:
        given.append(("output_dtype", body.output_dtype))
    for name, value in (("embedding_type", body.embedding_type), ("embedding_types", body.embedding_types)):
        if isinstance(value, list):
            if len(value) != 1:
                raise _refused(name, f"must name one type, as an answer has one vector per text; it names {len(value)}")
            value = value[0]
        if value is not None:
            given.append((name, value))
    return given


def _is_query(name: str, value: str | None) -> bool | None:
    if value is not None and value not in _IS_QUERY:
        raise _refused(name, f"is {value[:100]!r}; it must be one of {', '.join(_IS_QUERY)}")
    return None if value is None else _IS_QUERY[value]


def _cut(value: str | bool | None) -> bool | None:
    known = value.upper() if isinstance(value, str) else value
    if known is not None and known not in _CUT:
        raise _refused("truncate", f"is {str(value)[:100]!r}; it must be true, false, END or NONE")
    return None if known is None else _CUT[known]


def _positive(value: int | None) -> int | None:
    if value == 0:
        raise _refused("truncate_prompt_tokens", "must be -1 or positive")
    return value


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
