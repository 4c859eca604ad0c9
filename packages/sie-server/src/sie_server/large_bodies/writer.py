"""Encodes a large response in pieces."""

import secrets
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from sie_server import codec

# Elements per piece: with 250 highlights each, it takes some milliseconds.
_AT_ONCE = 16
# Numbers per piece, of up to 24 bytes each: encoding them holds the GIL for a millisecond.
_NUMBERS = 2**13
# Characters from which a text is encoded in parts: each may become six bytes.
_LONG_TEXT = 2**13


def pieces(response: msgspec.Struct, field: str, elements: Iterable[Any], *, msgpack: bool) -> Iterator[bytes]:
    """The encoded response, as by `codec.encode`, in pieces. `field` is the list, and gets these elements."""
    set_ = [name for name in response.__struct_fields__ if getattr(response, name) is not UNSET]
    if msgpack:
        yield bytes([0x80 + len(set_)])
    for n, name in enumerate(set_):
        value = getattr(response, name)
        key = codec.encode(name, msgpack=msgpack)
        yield key if msgpack else (b"," if n else b"{") + key + b":"
        if name == field:
            yield from _msgpack_list(elements) if msgpack else json_list(elements)
        else:
            yield from _encoded(value, msgpack)
    if not msgpack:
        yield b"}"


def json_list(elements: Iterable[Any]) -> Iterator[bytes]:
    """The encoded list of these elements in JSON, in pieces."""
    separator = b"["
    for part in _parts(elements):
        first, *rest = _encoded(part, msgpack=False)
        encoded = [separator + first[1:], *rest]
        encoded[-1] = encoded[-1][:-1]
        yield from encoded
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _msgpack_list(elements: Iterable[Any]) -> Iterator[bytes]:
    # The count comes first, and is known only when all elements are encoded.
    encoded: list[bytes] = []
    count = 0
    for part in _parts(elements):
        first, *rest = _encoded(part, msgpack=True)
        encoded += [first[len(_header(len(part))) :], *rest]
        count += len(part)
    yield _header(count)
    yield from encoded


def _parts(elements: Iterable[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    numbers = 0
    for element in elements:
        part.append(element)
        numbers += _numbers(element)
        if len(part) == _AT_ONCE or numbers > _NUMBERS:
            yield part
            part, numbers = [], 0
    if part:
        yield part


def _numbers(value: Any) -> int:
    """Number of values in the arrays and lists of an element."""
    if isinstance(value, msgspec.Struct):
        return sum(_numbers(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, np.ndarray):
        return value.size
    return len(value) if isinstance(value, list) else 0


def _header(count: int) -> bytes:
    if count < 16:
        return bytes([0x90 + count])
    return b"\xdc" + struct.pack(">H", count) if count < 2**16 else b"\xdd" + struct.pack(">I", count)


def _encoded(value: Any, msgpack: bool) -> Iterator[bytes]:
    """An encoded value, as by `codec.encode`, with long texts and arrays in parts."""
    long: list[tuple[str, str | NDArray[Any]]] = []
    raw = codec.encode(_hollow(value, long), msgpack=msgpack)
    for name, each in long:
        before, _, raw = raw.partition(codec.encode(name, msgpack=msgpack))
        yield before
        if isinstance(each, str):
            yield from _text(each, msgpack)
        else:
            yield from _packed(each) if msgpack else _listed(each)
    yield raw


def _hollow(value: Any, long: list[tuple[str, str | NDArray[Any]]]) -> Any:
    """The value with unguessable names in place of its long texts and arrays, which are appended to `long`."""
    is_long = (isinstance(value, str) and len(value) > _LONG_TEXT) or (
        isinstance(value, np.ndarray) and value.size > _NUMBERS
    )
    if is_long:
        long.append((secrets.token_hex(14), value))
        return long[-1][0]
    if isinstance(value, list) and value and isinstance(value[0], msgspec.Struct | np.ndarray | str):
        return [_hollow(each, long) for each in value]
    if isinstance(value, msgspec.Struct):
        held = ((name, getattr(value, name)) for name in value.__struct_fields__)
        changed = {name: found for name, each in held if (found := _hollow(each, long)) is not each}
        return msgspec.structs.replace(value, **changed) if changed else value
    return value


def _text(text: str, msgpack: bool) -> Iterator[bytes]:
    parts = [text[start : start + _LONG_TEXT] for start in range(0, len(text), _LONG_TEXT)]
    if msgpack:
        packed = [part.encode() for part in parts]
        size = sum(map(len, packed))
        yield b"\xda" + struct.pack(">H", size) if size < 2**16 else b"\xdb" + struct.pack(">I", size)
        yield from packed
    else:
        yield b'"'
        for part in parts:
            yield codec.encode(part, msgpack=False)[1:-1]
        yield b'"'


def _listed(array: NDArray[Any]) -> Iterator[bytes]:
    """An array in JSON: as many rows at a time as make a piece; longer rows are split."""
    width = array[0].size if array.ndim > 1 else 1
    step = max(_NUMBERS // max(width, 1), 1)
    separator = b"["
    for start in range(0, len(array), step):
        yield separator
        separator = b","
        if width > _NUMBERS:
            yield from _listed(array[start])
        else:
            yield codec.encode(array[start : start + step], msgpack=False)[1:-1]
    yield b"]"


def _packed(array: NDArray[Any]) -> Iterator[bytes]:
    """An array in MessagePack: the map of msgpack-numpy, whose last entry is the data."""
    size = array.nbytes
    yield codec.encode(codec.mapped(array, b""), msgpack=True)[: -len(codec.encode(b"", msgpack=True))]
    yield b"\xc5" + struct.pack(">H", size) if size < 2**16 else b"\xc6" + struct.pack(">I", size)
    numbers = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, len(numbers), _NUMBERS):
        yield numbers[start : start + _NUMBERS].tobytes()
