"""Vectors in the forms that requests ask for."""

import math
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sie_server.api.embed_dialects.dialect import Embedded
from sie_server.api.embed_dialects.wanted import Numbers
from sie_server.api.responses import check_finite, quantize

Vector = NDArray[np.float32]


def cut(vector: Vector, dimensions: int | None) -> Vector:
    """The first `dimensions` values, scaled to length 1 again (Kusupati et al. 2022, Matryoshka representations)."""
    if dimensions in (None, len(vector)):
        return vector
    front = vector[:dimensions]
    # Exact squares, and their sum rounded once: NumPy's own length may depend on where in a batch the vector lies.
    length = math.sqrt(math.fsum(np.square(front, dtype=np.float64).tolist()))
    unit: Vector = front / np.float32(max(length, 1e-12))
    return unit


def numbers(vector: Vector, form: Numbers, field: str) -> NDArray[Any]:
    """The numbers of a vector in the type of a form.

    Raises:
        SIEError: INFERENCE_ERROR, one is not finite; `param` names the field of its text.
    """
    check_finite(vector, field)
    found = quantize(vector, form.dtype)
    if form.dtype != "binary":
        return found
    # These APIs have the bits as int8, and those of "ubinary" as they are.
    return (found.astype(np.int16) - 128).astype(np.int8)


def encoded(found: NDArray[Any]) -> str:
    """The base64 of the little-endian bytes of numbers."""
    return b64encode(found.astype(found.dtype.newbyteorder("<")).tobytes()).decode()


def values(embedded: Embedded, index: int, vector: Vector) -> Any:
    """The numbers of a text's vector, in the width and the first form that the request asks for."""
    form = embedded.want.forms[0]
    found = numbers(cut(vector, embedded.want.dims), form, f"{embedded.field}[{index}]")
    return encoded(found) if form.base64 else found.tolist()
