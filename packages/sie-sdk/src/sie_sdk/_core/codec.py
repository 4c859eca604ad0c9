"""Encodes requests and decodes responses in MessagePack, with NumPy arrays.

An array is a map of five entries with binary keys: `nd` true, `type` (the dtype string, as text),
`kind` (empty), `shape`, `data` (C order). A NumPy scalar has three: `nd` false, `type`, `data`. Decoding is strict, so
that no peer can make the client build an object array or read past a buffer.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from sie_sdk.errors import RequestError

CONTENT_TYPE = "application/msgpack"

_NUMBERS = ("f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8")
_DTYPES = {order + number for order in "<>" for number in _NUMBERS} | {"|b1", "|i1", "|u1"}
_ARRAY_KEYS = {b"nd", b"type", b"kind", b"shape", b"data"}
_SCALAR_KEYS = {b"nd", b"type", b"data"}
_MAX_DIMENSIONS = 8


def encode(body: Any, path: str = "") -> bytes:
    """Encodes a request body, or the part of one that is at `path`.

    Raises ValueError, naming the field, if a text is not valid Unicode, and TypeError for a value that MessagePack
    can't carry.
    """
    try:
        return msgspec.msgpack.encode(body, enc_hook=_as_plain)
    except UnicodeEncodeError as error:
        path, text = next(_surrogates(body, path))
        at = next(i for i, char in enumerate(text) if "\ud800" <= char <= "\udfff")
        message = f"{path} is not valid Unicode: lone surrogate U+{ord(text[at]):04X} at character {at}"
        raise ValueError(message) from error


def decode(content: bytes, what: str) -> dict[str, Any]:
    """Decodes the map in a response body. Raises RequestError, naming the response by `what`, for anything else."""
    try:
        body = msgspec.msgpack.decode(content)
        # Only a body with these two letters can hold an array; most don't, and need no second pass.
        if b"nd" in content:
            body = _with_arrays(body)
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:  # a list may claim to have any number of elements
        raise malformed(what, str(error) or type(error).__name__) from error
    if not isinstance(body, dict):
        raise malformed(what, f"expected a map, got {type(body).__name__}")
    return body


def malformed(what: str, reason: str) -> RequestError:
    """Returns the error for a response that can't be decoded."""
    return RequestError(f"Malformed {what} MessagePack response ({reason})")


def _as_plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):  # of a subclass: NumPy's, an enumeration's
        return str.__str__(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.str in _DTYPES:
        if isinstance(value, np.generic):
            return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
        shape = list(value.shape)
        return {b"nd": True, b"type": value.dtype.str, b"kind": b"", b"shape": shape, b"data": value.tobytes()}
    kind = f"a value of type {type(value).__name__}"
    if isinstance(value, np.ndarray):
        kind = f"an array of dtype {value.dtype}"
    raise TypeError(f"a request can't contain {kind}")


def _with_arrays(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_arrays(element) for element in value]
    if not isinstance(value, dict):
        return value
    if any(isinstance(key, bytes) for key in value):
        return _array(value)
    return {key: _with_arrays(element) for key, element in value.items()}


def _array(entries: dict[Any, Any]) -> Any:
    is_array = entries.get(b"nd")
    if not isinstance(is_array, bool) or entries.keys() != (_ARRAY_KEYS if is_array else _SCALAR_KEYS):
        raise ValueError("a map with binary keys is not a NumPy array")
    dtype, data, shape = entries[b"type"], entries[b"data"], entries.get(b"shape", [])
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"array dtype {dtype!r} is not allowed")
    if entries.get(b"kind", b"") != b"":
        raise ValueError("array kind is not empty")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"array shape {shape!r} is not allowed")
    expected = math.prod(shape) * int(dtype[2:])
    if not isinstance(data, bytes) or len(data) != expected:
        raise ValueError(f"array data does not have the {expected} bytes of shape {shape} and dtype {dtype}")
    array = np.ndarray(shape, dtype, buffer=data)
    return array if is_array else array[()]


def _surrogates(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yields every text under `value` that UTF-8 can't encode, with its path."""
    if isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            yield path, value
    elif isinstance(value, Mapping):
        for key, element in value.items():
            name = ascii(key)[1:-1] if isinstance(key, str) else repr(key)
            below = f"{path}.{name}" if path else name
            yield from _surrogates(key, f"the key {below}")
            yield from _surrogates(element, below)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        for i, element in enumerate(value):
            yield from _surrogates(element, f"{path}[{i}]")
