"""The outline of a JSON body, found slice by slice with array operations, which let other threads run."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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

_SLICE = 128 * 2**10
_TEXT_PIECE = 64 * 2**10
_BLANK = b" \t\r\n"
_QUOTE, _OPEN, _CLOSE, _COMMA, _COLON = 1, 2, 3, 4, 5
_KINDS = np.zeros(256, np.uint8)
for _characters, _kind in ((b'"', _QUOTE), (b"[{", _OPEN), (b"]}", _CLOSE), (b",", _COMMA), (b":", _COLON)):
    _KINDS[list(_characters)] = _kind
# Longer keys are not fields of ours.
_LONGEST_NAME = 200
# Complete characters and escapes; the group is a high surrogate, which needs the next escape.
_WHOLE = re.compile(rb"(?:[^\\]+|(\\u[dD][89abAB][0-9a-fA-F]{2})|\\u[0-9a-fA-F]{4}|\\[^u])*", re.DOTALL)
_BLANKS = re.compile(rb"(?<![ \t\r\n])[ \t\r\n]{%d,}" % LONG_TEXT)
_PLACE = re.compile(r" \(byte \d+\)")
# Upper bound of the length of an escape relative to its UTF-8.
_LONGEST_ESCAPE = 6

Ints = NDArray[np.int64]


class _Marks(NamedTuple):
    """Brackets, commas and colons outside of texts, down to the elements of the body's lists.

    at: positions. kinds: which mark. levels: 1 in the body itself, 2 in its fields. values: number of values that begin
    up to each mark.
    """

    at: Ints
    kinds: NDArray[np.uint8]
    levels: Ints
    values: Ints


class Json:
    """JSON request bodies."""

    def outline(self, body: Body, listed: ListField, most_values: int, invalid: Code) -> Outline:
        texts: list[tuple[int, int]] = []
        most = max(listed.most, listed.numbers)
        most_marks = max(most, MOST_VALUES_EACH) + 1
        found, total = [], 1
        for scanned, so_far in _marks(body, texts, most_marks, most_values):
            found.append(scanned)
            total = so_far
        # The scan ends early where there is too much of something.
        whole = sum(len(scanned.at) for scanned in found) <= most_marks and total <= most_values
        marks = _Marks(*map(np.concatenate, zip(*found, strict=True))) if found else _Marks(*[np.zeros(0, int)] * 4)
        nothing = np.zeros(0, np.int64)
        elements, values, inside = None, nothing, (0, 0)
        level = marks.levels == 1
        at, kinds = marks.at[level], marks.kinds[level]
        for colon in np.flatnonzero(kinds == _COLON)[: MOST_VALUES_EACH + 1]:
            start = int(at[colon]) + 1
            end = int(at[colon + 1]) if colon + 1 < len(at) else len(body)
            name = _name(body, int(at[colon - 1]) + 1, start - 1) if colon else ""
            first, last = np.searchsorted(marks.at, [start, end])
            if name != listed.field or first == last or body[int(marks.at[first])] != ord("["):
                continue
            if not _is_blank(body, start, int(marks.at[first])):
                continue  # malformed; msgspec reports it
            opened = int(marks.at[first])
            inner = slice(first + 1, last)
            commas = np.flatnonzero((marks.kinds[inner] == _COMMA) & (marks.levels[inner] == 2))
            if len(commas) >= most:
                raise listed.too_many()
            if end == len(body) and not whole:
                break
            if marks.kinds[last - 1] != _CLOSE:
                raise SIEError(invalid, "Input data was truncated")
            closed = int(marks.at[last - 1])
            between = marks.at[inner][commas]
            edges = np.concatenate(([opened], between, [closed]))
            elements = np.stack([edges[:-1] + 1, edges[1:]], axis=1)
            counted = np.concatenate(([marks.values[first]], marks.values[inner][commas], [marks.values[last - 1] + 1]))
            values = np.diff(counted)
            inside = opened + 1, closed
            if len(elements) == 1 and _is_blank(body, inside[0], min(inside[1], inside[0] + _SLICE)):
                elements, values = elements[:0], values[:0]
        if total > most_values:
            raise too_many_values(most_values)
        if not whole or total - int(values.sum()) > MOST_VALUES_EACH:
            raise too_much_beside(listed)
        return Outline(elements, values, inside, texts, total - int(values.sum()))

    def hollow(self, body: Body, outline: Outline, cuts: list[tuple[int, int, str]]) -> Body:
        start, end = outline.inside
        before = [(first, last, _quoted(name)) for first, last, name in cuts if last <= start]
        behind = [(first, last, _quoted(name)) for first, last, name in cuts if first >= end]
        return spliced(body, 0, start, before, _squeezed) + spliced(body, end, len(body), behind, _squeezed)

    def several(self, body: Body, start: int, end: int, count: int, cuts: list[tuple[int, int, str]]) -> Body:
        named = [(first, last, _quoted(name)) for first, last, name in cuts]
        return b"[" + spliced(body, start, end, named, _squeezed) + b"]"

    def decode(self, raw: Body, kind: Any, invalid: Code) -> Any:
        try:
            return codec.decode(raw, kind, msgpack=False, invalid=invalid)
        except SIEError as error:
            # Its position counts from the start of a piece.
            raise SIEError(error.code, _PLACE.sub("", error.message)) from None

    def text(self, body: Body, start: int, end: int, most: int, invalid: Code) -> str | None:
        start, end = start + 1, end - 1
        if end - start > most * _LONGEST_ESCAPE:
            return None
        parts, size = [], 0
        while start < end:
            piece = body[start : _cut(body, start, end)]
            start += len(piece)
            part: str = self.decode(b'"' + piece + b'"', str, invalid)
            size += len(part.encode())
            if size > most:
                return None
            parts.append(part)
        return "".join(parts)


def _marks(body: Body, texts: list[tuple[int, int]], most: int, most_values: int) -> Iterator[tuple[_Marks, int]]:
    """Yield the marks of each slice and the number of values up to its end, until either exceeds its limit.

    Appends the long texts, with their quotes, to `texts`.
    """
    inside = escaped = False
    level = values = seen = opened = 0
    for start in range(0, len(body), _SLICE):
        piece = body[start : start + _SLICE]
        if escaped:
            piece = b"_" + piece[1:]
        escaped = False
        if b"\\" in piece:
            # From the left, as escapes are read. The last backslash of an odd run escapes the next byte.
            piece = piece.replace(b"\\\\", b"__")
            escaped = piece.endswith(b"\\")
            piece = piece.replace(b'\\"', b"__")
        found = _KINDS[np.frombuffer(piece, np.uint8)]
        at = np.flatnonzero(found)
        if not len(at):
            continue
        kinds = found[at]
        at += start
        quotes = kinds == _QUOTE
        within = np.logical_xor.accumulate(quotes) ^ inside
        ends = at[quotes & ~within]
        begins = at[quotes & within]
        if inside:
            begins = np.concatenate(([opened], begins))
        inside = bool(within[-1])
        if inside:
            opened = int(begins[-1])
        closed = begins[: len(ends)]
        texts += [(int(closed[i]), int(ends[i]) + 1) for i in np.flatnonzero(ends - closed >= LONG_TEXT)]

        outside = ~(within | quotes)
        at, kinds = at[outside], kinds[outside]
        opening = kinds == _OPEN
        closing = kinds == _CLOSE
        levels = np.cumsum(opening.astype(np.int64) - closing) + level
        # An empty list has no value in it, which does not matter for a bound.
        counts = np.cumsum(opening | (kinds == _COMMA)) + values
        if len(at):
            level, values = int(levels[-1]), int(counts[-1])
        levels += closing
        shallow = levels <= 2
        seen += int(shallow.sum())
        yield _Marks(at[shallow], kinds[shallow], levels[shallow], counts[shallow]), values
        if seen > most or values > most_values:
            return


def _is_blank(body: Body, start: int, end: int) -> bool:
    return not any(body[at : min(at + _SLICE, end)].strip(_BLANK) for at in range(start, end, _SLICE))


def _squeezed(raw: Body) -> Body:
    """The bytes with long runs of whitespace shortened. None is in a text: long texts have been replaced by names."""
    return _BLANKS.sub(b" ", raw) if len(raw) >= LONG_TEXT else raw


def _name(body: Body, start: int, end: int) -> str:
    """The key at that position; "" if it is malformed or not ours."""
    if end - start > _LONGEST_NAME:
        return ""
    try:
        return str(codec.decode(body[start:end].strip(_BLANK), str, msgpack=False))
    except SIEError:
        return ""


def _cut(body: Body, start: int, end: int) -> int:
    """The end of a piece of a text that begins at `start`, between two characters."""
    if end - start <= _TEXT_PIECE:
        return end
    last = start + _TEXT_PIECE
    if b"\\" in body[last - 2 * _LONGEST_ESCAPE : last]:
        whole = _WHOLE.match(body, start, last)
        assert whole is not None  # matches the empty string too
        last = whole.start(1) if whole.end(1) == whole.end() else whole.end()
        if last <= start:
            return end  # malformed
    while last > start + 1 and body[last] & 0xC0 == 0x80:
        last -= 1
    return last


def _quoted(name: str) -> bytes:
    return b'"' + name.encode() + b'"'
