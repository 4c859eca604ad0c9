"""Embeddings in fewer bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sie_server.options import Dtype


def quantize(vectors: NDArray[np.float32], dtype: Dtype) -> NDArray[Any]:
    """Quantise each vector along the last axis on its own; scale factors are not kept.

    float16: cast. int8: `round(x / max|x| · 127)`. uint8: min–max to 0…255. binary, ubinary: one bit per dimension,
    set where x > 0, packed most significant bit first, so the last axis shrinks by eight.
    A vector that is constant (uint8) or zero (int8) becomes zeros.
    """
    match dtype:
        case "float32":
            return vectors
        case "float16":
            return vectors.astype(np.float16)
        case "int8":
            peak = np.abs(vectors).max(axis=-1, keepdims=True)
            levels: NDArray[np.float32] = np.round(vectors / np.where(peak > 0, peak, 1) * 127)
            return levels.astype(np.int8)
        case "uint8":
            low = vectors.min(axis=-1, keepdims=True)
            span = vectors.max(axis=-1, keepdims=True) - low
            levels = np.round((vectors - low) / np.where(span > 0, span, 1) * 255)
            return levels.astype(np.uint8)
        case "binary" | "ubinary":
            bits: NDArray[np.uint8] = np.packbits(vectors > 0, axis=-1)
            return bits
