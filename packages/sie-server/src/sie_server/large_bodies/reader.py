"""Decodes a large body piece by piece, and checks what it holds before it is built."""

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
from sie_server.large_bodies.outline import MOST_BYTES_AT_ONCE, Body, Listed, Notation, Outline, too_much_beside

T = TypeVar("T")
# Of what is decoded in one call.
_PIECE_BYTES = 128 * 2**10
_PIECE_VALUES = 8_192
_OBJECT_BYTES = 64
_VALUE_BYTES = 8
_INDEX = re.compile(r"\$\[(\d+)\]")


class Reader:
    """One large body. Everything here may take long: it is for a thread that nobody waits for but this request.

    most_values: in the whole body. most_text: bytes of UTF-8 in any text that is kept.
    """

    def __init__(
        self, body: Body, listed: Listed, *, msgpack: bool, most_values: int, most_text: int, invalid: Code
    ) -> None:
        """Raises SIEError: a count is over its limit, or it is no such body."""
        self._body = body
        self._listed = listed
        self._notation: Notation = Msgpack() if msgpack else Json()
        self._most_text = most_text
        self._invalid = invalid
        self._outline: Outline = self._notation.outline(body, listed, most_values, invalid)
        # Names in place of long texts; nobody can guess one.
        token = secrets.token_hex(11)
        self._named = re.compile(rb"%b(\d{7})" % token.encode())
        self._cuts = [(start, end, f"{token}{n:07}") for n, (start, end) in enumerate(self._outline.texts)]
        self._texts = {name: (start, end) for start, end, name in self._cuts}

    @property
    def has_list(self) -> bool:
        """Whether the body's field is a list at all."""
        return self._outline.elements is not None

    def beside(self, kind: type[T]) -> T:
        """The body, with its list empty.

        Raises:
            SIEError: `invalid`, with the path of the fault; INVALID_INPUT, a text is too long, or there is too much.
        """
        raw = self._notation.hollow(self._body, self._outline, self._cuts)
        if len(raw) > MOST_BYTES_AT_ONCE:
            raise too_much_beside(self._listed)
        decoded: T = self.filled(self._notation.decode(raw, kind, self._invalid))
        return decoded

    def elements(self) -> Iterator[Any]:
        """The elements of the list, in order, with their long texts.

        Raises:
            SIEError: `invalid`, with the path of the fault; INVALID_INPUT, one has too many values.
        """
        outline, listed = self._outline, self._listed
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
        """The value, with its long texts in their places.

        Raises:
            SIEError: INVALID_INPUT, one is over the limit.
        """
        if isinstance(value, str):
            return self._text(value, field) if value in self._texts else value
        if isinstance(value, list):
            return [self.filled(each, f"{field}[{n}]") for n, each in enumerate(value)]
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                held = getattr(value, name)
                # Those that can't be changed have no texts.
                if (found := self.filled(held, f"{field}.{name}" if field else name)) is not held:
                    setattr(value, name, found)
        return value

    def hidden(self, metadata: Mapping[str, msgspec.Raw]) -> int:
        """Bytes of the long texts whose names stand in there."""
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
            return f"$.{self._listed.field}[{first + int(found[1])}]"

        try:
            elements: list[Any] = self._notation.decode(raw, list[self._listed.kind], self._invalid)  # type: ignore[name-defined]
        except SIEError as error:
            raise SIEError(error.code, _INDEX.sub(place, error.message, count=1)) from None
        if len(elements) != count:
            raise SIEError(self._invalid, "JSON is malformed: trailing comma")
        return elements


def memory(value: Any) -> int:
    """About how many bytes a decoded body takes: its texts, and something for each object."""
    if isinstance(value, list):
        return sum(map(memory, value))
    if isinstance(value, msgspec.Struct):
        return _OBJECT_BYTES + sum(memory(getattr(value, name)) for name in value.__struct_fields__)
    return sys.getsizeof(value) if isinstance(value, str) else _VALUE_BYTES
