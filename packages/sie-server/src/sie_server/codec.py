"""Encodes and decodes bodies in JSON and MessagePack, NumPy arrays included."""

from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sie_server.errors import Code, SIEError

T = TypeVar("T")


def decode(body: bytes | bytearray, kind: type[T], *, msgpack: bool, invalid: Code = Code.INVALID_INPUT) -> T:
    """Decode and validate a request body in one pass.

    Raises:
        SIEError: `invalid` with the JSON path of the fault.
    """
    try:
        return msgspec.msgpack.decode(body, type=kind) if msgpack else msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise SIEError(invalid, str(error)) from None
    except UnicodeDecodeError as error:
        name = "MessagePack data" if msgpack else "JSON"
        raise SIEError(invalid, f"{name} is malformed: text is not valid UTF-8 ({error.reason})") from None
    except RecursionError:
        raise SIEError(invalid, "the request body is nested too deeply") from None


def encode(response: Any, *, msgpack: bool) -> bytes:
    """Encode a response; arrays become msgpack-numpy maps, or nested lists in JSON."""
    try:
        if msgpack:
            return msgspec.msgpack.encode(response, enc_hook=_array_to_map)
        return msgspec.json.encode(response, enc_hook=_array_to_list)
    except UnicodeEncodeError:
        # A file name may not be valid Unicode. Better to replace its characters than to fail.
        return encode(_as_text(msgspec.to_builtins(response, enc_hook=_array_to_list)), msgpack=msgpack)


def mapped(array: NDArray[Any], data: bytes) -> dict[bytes, Any]:
    """The map that msgpack-numpy makes of an ndarray: five entries with bin keys, in this order."""
    return {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape, b"data": data}


def _array_to_map(value: Any) -> dict[bytes, Any]:
    if not isinstance(value, np.ndarray):
        raise NotImplementedError(f"{type(value)} cannot be encoded")
    return mapped(value, value.tobytes())


def _array_to_list(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise NotImplementedError(f"{type(value)} cannot be encoded")
    return value.tolist()


def _as_text(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {_as_text(key): _as_text(each) for key, each in value.items()}
        case list() | tuple():
            return [_as_text(each) for each in value]
    return value
