"""The outline of a MessagePack body, found by walking its headers, which contain lengths."""

import struct
from typing import Any

import numpy as np

from sie_server import codec
from sie_server.errors import Code, SIEError
from sie_server.large_bodies.outline import (
    LONG_TEXT,
    MOST_VALUES_EACH,
    Body,
    ListField,
    Outline,
    spliced,
    too_many_values,
    too_much_beside,
)

_EMPTY_LIST = b"\x90"
_MAP, _LIST, _DATA = 1, 2, 3


def _table() -> list[tuple[int, int, int]]:
    """By first byte: kind (0: value of fixed size), size in bytes or count, and width of the length field."""
    table = [(0, 1, 0)] * 256
    for byte in range(16):
        table[0x80 + byte] = (_MAP, byte, 0)
        table[0x90 + byte] = (_LIST, byte, 0)
    for byte in range(32):
        table[0xA0 + byte] = (0, 1 + byte, 0)
    for n, width in enumerate((1, 2, 4)):
        table[0xC4 + n] = (_DATA, 0, width)
        table[0xC7 + n] = (_DATA, 1, width)  # behind the type of an extension
        table[0xD9 + n] = (_DATA, 0, width)
    for n, size in enumerate((5, 9)):
        table[0xCA + n] = (0, size, 0)
    for n, size in enumerate((2, 3, 5, 9)):
        table[0xCC + n] = table[0xD0 + n] = (0, size, 0)
    for n, size in enumerate((3, 4, 6, 10, 18)):
        table[0xD4 + n] = (0, size, 0)
    for n, width in enumerate((2, 4)):
        table[0xDC + n] = (_LIST, 0, width)
        table[0xDE + n] = (_MAP, 0, width)
    return table


_TABLE = tuple(_table())


class Msgpack:
    """MessagePack request bodies."""

    def outline(self, body: Body, listed: ListField, most_values: int, invalid: Code) -> Outline:
        try:
            return _Walk(body, most_values).outline(listed)
        except IndexError:
            raise SIEError(invalid, "Input data was truncated") from None

    def hollow(self, body: Body, outline: Outline, cuts: list[tuple[int, int, str]]) -> Body:
        start, end = outline.inside
        named = [(first, last, _text(name)) for first, last, name in cuts if last <= start or first >= end]
        if outline.elements is not None:
            named.append((start, end, _EMPTY_LIST))
        return spliced(body, 0, len(body), sorted(named))

    def several(self, body: Body, start: int, end: int, count: int, cuts: list[tuple[int, int, str]]) -> Body:
        named = [(first, last, _text(name)) for first, last, name in cuts]
        return b"\xdd" + struct.pack(">I", count) + spliced(body, start, end, named)

    def decode(self, raw: Body, kind: Any, invalid: Code) -> Any:
        return codec.decode(raw, kind, msgpack=True, invalid=invalid)

    def text(self, body: Body, start: int, end: int, most: int, invalid: Code) -> str | None:
        text: str = self.decode(body[start:end], str, invalid) if end - start <= most + 5 else ""
        return text if text and len(text.encode()) <= most else None


class _Walk:
    def __init__(self, body: Body, most_values: int) -> None:
        self._body = body
        self._most_values = most_values
        self._values = 1
        self._texts: list[tuple[int, int]] = []

    def outline(self, listed: ListField) -> Outline:
        nothing = np.zeros(0, np.int64)
        elements, values, inside = None, nothing, (0, 0)
        kind, count, at = self._header(0)
        if kind != _MAP:
            return Outline(None, nothing, inside, self._texts, 0)
        self._count(2 * count)
        name = listed.field.encode()
        in_list = 0
        for _ in range(count):
            key, at = at, self._skip(at)
            start, (kind, length, first) = at, self._header(at)
            if kind != _LIST or not self._body[key:at].endswith(name) or at - key > len(name) + 5:
                at = self._skip(at)
                continue
            if not _is(self._body[key:at], listed.field):
                at = self._skip(at)
                continue
            if length > max(listed.most, listed.numbers):
                raise listed.too_many()
            before = self._values
            self._count(length)
            edges, counts = [first], [self._values]
            for _ in range(length):
                edges.append(self._skip(edges[-1]))
                counts.append(self._values)
            at = edges[-1]
            elements = np.stack([np.array(edges[:-1], np.int64), np.array(edges[1:], np.int64)], axis=1)
            inside = start, at
            values = np.array(counts[1:], np.int64) - np.array(counts[:-1], np.int64) + 1
            # If the field occurs several times, the last one counts; earlier ones are decoded with the other fields.
            in_list = self._values - before
        beside = self._values - in_list
        if beside > MOST_VALUES_EACH:
            raise too_much_beside(listed)
        return Outline(elements, values, inside, self._texts, beside)

    def _skip(self, at: int) -> int:
        """The end of the value that begins at `at`."""
        body, left = self._body, 1
        while left:
            left -= 1
            kind, size, width = _TABLE[body[at]]
            if not kind:
                at += size
                continue
            start = at
            if width:
                size += int.from_bytes(body[at + 1 : at + 1 + width], "big")
            at += 1 + width
            if kind == _DATA:
                at += size
                if size >= LONG_TEXT:
                    self._texts.append((start, at))
                continue
            children = 2 * size if kind == _MAP else size
            self._count(children)
            left += children
        if at > len(body):
            raise IndexError
        return at

    def _header(self, at: int) -> tuple[int, int, int]:
        """Kind, count and first child of the value that begins at `at`."""
        kind, size, width = _TABLE[self._body[at]]
        if width:
            size += int.from_bytes(self._body[at + 1 : at + 1 + width], "big")
        return kind, size, at + 1 + width

    def _count(self, more: int) -> None:
        self._values += more
        if self._values > self._most_values:
            raise too_many_values(self._most_values)


def _is(raw: Body, field: str) -> bool:
    try:
        return bool(codec.decode(raw, str, msgpack=True) == field)
    except SIEError:
        return False


def _text(name: str) -> bytes:
    raw = name.encode()
    return bytes([0xA0 + len(raw)]) + raw
