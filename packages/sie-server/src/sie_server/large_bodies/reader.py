"""Decodes a large body in pieces, and checks limits before objects are built."""

import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from sie_server.errors import Code, SIEError
from sie_server.large_bodies.json_outline import Json
from sie_server.large_bodies.msgpack_outline import Msgpack
from sie_server.large_bodies.outline import MOST_BYTES_AT_ONCE, Body, ListField, Notation, Outline, too_much_beside

T = TypeVar("T")
# Limits of a piece, which is decoded in one call.
_PIECE_BYTES = 128 * 2**10
_PIECE_VALUES = 8_192
_OBJECT_BYTES = 64
_VALUE_BYTES = 8
_INDEX = re.compile(r"\$\[(\d+)\]")


class Reader:
    """One large body. All methods may take long and belong on a worker thread.

    listed: the field of its list.

    most_values: limit on values in the whole body. most_text: limit on the bytes of UTF-8 of a text.
    """

    def __init__(
        self, body: Body, listed: ListField, *, msgpack: bool, most_values: int, most_text: int, invalid: Code
    ) -> None:
        """Raises SIEError: a count exceeds its limit, or the body is malformed."""
        self._body = body
        self.listed = listed
        self._notation: Notation = Msgpack() if msgpack else Json()
        self._most_text = most_text
        self._invalid = invalid
        self._outline: Outline = self._notation.outline(body, listed, most_values, invalid)
        # Unguessable names stand in for long texts.
        token = secrets.token_hex(11)
        self._named = re.compile(rb"%b(\d{7})" % token.encode())
        self._cuts = [(start, end, f"{token}{n:07}") for n, (start, end) in enumerate(self._outline.texts)]
        self._texts = {name: (start, end) for start, end, name in self._cuts}

    @property
    def has_list(self) -> bool:
        """Whether the field of the body is a list."""
        return self._outline.elements is not None

    def beside(self, kind: type[T]) -> T:
        """Decode the body, with an empty list.

        Raises:
            SIEError: `invalid`, with the path of the fault; INVALID_INPUT, a text or the rest is too large.
        """
        raw = self._notation.hollow(self._body, self._outline, self._cuts)
        if len(raw) > MOST_BYTES_AT_ONCE:
            raise too_much_beside(self.listed)
        decoded: T = self.filled(self._notation.decode(raw, kind, self._invalid))
        return decoded

    def elements(self) -> Iterator[Any]:
        """Decode the elements of the list, in order, with their long texts.

        Raises:
            SIEError: `invalid`, with the path of the fault; INVALID_INPUT, one has too many values.
        """
        outline, listed = self._outline, self.listed
        assert outline.elements is not None
        dense = np.flatnonzero(outline.values > listed.each)
        if len(dense):
            raise listed.too_dense(int(dense[0]))
        ends, values = outline.elements[:, 1], np.cumsum(outline.values)
        starts_of_texts = np.array([start for start, _ in outline.texts], np.int64)
        first = 0
        while first < len(ends):
            start, seen = int(outline.elements[first, 0]), int(values[first - 1]) if first else 0
            by_bytes = np.searchsorted(ends, start + _PIECE_BYTES, "right")
            by_values = np.searchsorted(values, seen + _PIECE_VALUES, "right")
            last = max(int(min(by_bytes, by_values)), first + 1)
            end = int(ends[last - 1])
            low, high = np.searchsorted(starts_of_texts, [start, end])
            cuts = self._cuts[low:high]
            raw = self._notation.several(self._body, start, end, last - first, cuts)
            if len(raw) > MOST_BYTES_AT_ONCE:
                field = f"{listed.field}[{first}]"
                raise SIEError(Code.INVALID_INPUT, f"Field '{field}' has too much data outside its texts", param=field)
            for index, element in enumerate(self._decoded(raw, first, last - first), first):
                yield self.filled(element, f"{listed.field}[{index}]") if cuts else element
            first = last

    def filled(self, value: Any, field: str = "") -> Any:
        """Put the long texts into a decoded value.

        Raises:
            SIEError: INVALID_INPUT, a text exceeds the limit.
        """
        if isinstance(value, str):
            return self._text(value, field) if value in self._texts else value
        if isinstance(value, list):
            return [self.filled(each, f"{field}[{n}]") for n, each in enumerate(value)]
        if isinstance(value, dict):
            return {key: self.filled(each, f"{field}.{key}") for key, each in value.items()}
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                held = getattr(value, name)
                # Frozen Structs contain no texts, and so do not change.
                if (found := self.filled(held, f"{field}.{name}" if field else name)) is not held:
                    setattr(value, name, found)
        return value

    def hidden(self, metadata: Mapping[str, msgspec.Raw]) -> int:
        """Bytes of the long texts that names in the metadata stand for."""
        if not self._cuts:
            return 0
        written = b"\0".join([*map(str.encode, metadata), *map(bytes, metadata.values())])
        hidden = {self._cuts[int(number)] for number in self._named.findall(written)}
        return sum(end - start - len(name) for start, end, name in hidden)

    def _text(self, name: str, field: str) -> str:
        start, end = self._texts[name]
        text = self._notation.text(self._body, start, end, self._most_text, self._invalid)
        if text is None:
            message = f"Field '{field.removesuffix('.text')}' must hold at most {self._most_text} bytes of UTF-8 text"
            raise SIEError(Code.INVALID_INPUT, message, param=field)
        return text

    def _decoded(self, raw: Body, first: int, count: int) -> list[Any]:
        def place(found: "re.Match[str]") -> str:
            return f"$.{self.listed.field}[{first + int(found[1])}]"

        try:
            elements: list[Any] = self._notation.decode(raw, list[self.listed.kind], self._invalid)  # type: ignore[name-defined]
        except SIEError as error:
            raise SIEError(error.code, _INDEX.sub(place, error.message, count=1)) from None
        if len(elements) != count:
            raise SIEError(self._invalid, "JSON is malformed: trailing comma")
        return elements


def memory(value: Any) -> int:
    """Estimated bytes of a decoded body: its texts, and a constant per object."""
    if isinstance(value, list):
        return sum(map(memory, value))
    if isinstance(value, dict):
        return _OBJECT_BYTES + sum(map(memory, value.values()))
    if isinstance(value, msgspec.Struct):
        return _OBJECT_BYTES + sum(memory(getattr(value, name)) for name in value.__struct_fields__)
    return sys.getsizeof(value) if isinstance(value, str) else _VALUE_BYTES
