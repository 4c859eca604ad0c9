"""Encodes a large answer piece by piece."""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET

from sie_server import codec

# Elements in a piece: with 250 highlights each, that takes some milliseconds.
_AT_ONCE = 16


def pieces(response: msgspec.Struct, field: str, *, msgpack: bool) -> Iterator[bytes]:
    """What `codec.encode` gives, in pieces; `field` has the list that makes the response large."""
    set_ = [name for name in response.__struct_fields__ if getattr(response, name) is not UNSET]
    if msgpack:
        yield bytes([0x80 + len(set_)])
    for n, name in enumerate(set_):
        value = getattr(response, name)
        key = codec.encode(name, msgpack=msgpack)
        yield key if msgpack else (b"," if n else b"{") + key + b":"
        if name == field:
            yield from _elements(value, msgpack)
        else:
            yield codec.encode(value, msgpack=msgpack)
    if not msgpack:
        yield b"}"


def _elements(values: list[Any], msgpack: bool) -> Iterator[bytes]:
    yield _header(len(values)) if msgpack else b"["
    for start in range(0, len(values), _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        encoded = codec.encode(part, msgpack=msgpack)
        if msgpack:
            yield encoded[len(_header(len(part))) :]
        else:
            yield (b"," if start else b"") + encoded[1:-1]
    if not msgpack:
        yield b"]"


def _header(count: int) -> bytes:
    if count < 16:
        return bytes([0x90 + count])
    return b"\xdc" + struct.pack(">H", count) if count < 2**16 else b"\xdd" + struct.pack(">I", count)
