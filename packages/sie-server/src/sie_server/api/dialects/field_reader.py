"""Reads the fields of a body one by one, so that each error names its field."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec
from msgspec import Raw

from sie_server.errors import Code, SIEError

T = TypeVar("T", bound=msgspec.Struct)
NULL = Raw(b"null")
_OFF = (b"false", b'"false"', b"null", b"{}", b"[]", b'""')


class FieldReader(Generic[T]):
    """Reads a type of body whose fields are all optional. must: by field, what it must be, for its error."""

    def __init__(self, kind: type[T], must: Mapping[str, str]) -> None:
        self._kind = kind
        self._must = must
        hints = get_type_hints(kind, include_extras=True)
        self._decoders = {name: msgspec.json.Decoder(hints[name]) for name in kind.__struct_fields__}

    def read(self, fields: Mapping[str, Raw]) -> T:
        """A body with these fields, all of which it has.

        Raises:
            SIEError: INVALID_INPUT, with the field that is wrong as `param`.
        """
        return self._kind(**{name: self._decoded(name, raw) for name, raw in fields.items()})

    def _decoded(self, name: str, raw: Raw) -> Any:
        try:
            return self._decoders[name].decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise wrong(name, self._must.get(name) or f"is invalid: {error}") from None


def given_fields(fields: Mapping[str, Raw]) -> dict[str, Raw]:
    """The fields of a body that are not null, those in `parameters` among them.

    Raises:
        SIEError: INVALID_INPUT, a field is given twice.
    """
    nested = {}
    if (parameters := fields.get("parameters", NULL)) != NULL:
        try:
            nested = msgspec.json.decode(parameters, type=dict[str, Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise wrong("parameters", f"is invalid: {error}") from None
    for name in nested:
        if name in fields or name == "parameters":
            raise wrong(f"parameters.{name}", "is given twice")
    found = {**fields, **nested} if nested else fields
    return {name: raw for name, raw in found.items() if raw != NULL and name != "parameters"}


def refuse(given: Mapping[str, Raw], names: frozenset[str]) -> None:
    """Refuse fields of these names, unless they ask for nothing: they are false, null or empty.

    Raises:
        SIEError: INVALID_INPUT, one asks for something.
    """
    for name in names.intersection(given):
        if bytes(given[name]).strip() not in _OFF:
            raise wrong(name, "is not supported")


def text_of(text: Any, field: str, rank_fields: list[str] | None = None) -> str:
    """The text of a string, of an object with a text, or of the parts of a message.

    rank_fields: fields of an object with texts; None: "text".

    Raises:
        SIEError: INVALID_INPUT, there is none.
    """
    if isinstance(text, str):
        return text
    names = rank_fields or ["text"]
    values = [(name, text[name]) for name in names if name in text]
    if values and all(isinstance(value, str) for _, value in values):
        return str(values[0][1]) if len(values) == 1 else "\n".join(f"{name}: {value}" for name, value in values)
    parts = text.get("content")
    if isinstance(parts, list) and parts and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in parts):
        return "\n".join(part["text"] for part in parts)
    missing = next((name for name in names if not isinstance(text.get(name), str)), names[0])
    raise wrong(field, f"must be a string, or an object with a string in '{missing}'")


def wrong(name: str, must: str) -> SIEError:
    """The error of a field."""
    return SIEError(Code.INVALID_INPUT, f"'{name}' {must}", param=name)
