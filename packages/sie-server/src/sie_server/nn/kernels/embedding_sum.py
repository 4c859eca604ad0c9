"""The CPU kernel for the sum of a token's embeddings."""

import ctypes
from array import array
from collections.abc import Sequence as Items

import torch
from torch import Tensor

from sie_server.nn.kernels.library import installed_library

MISSING_ROW = "a token's id, type or position is not in the table of embeddings"
_DTYPES = (torch.float32, torch.bfloat16)


class EmbeddingTable(ctypes.Structure):
    """`EmbeddingTable` of embedding_sum.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "rows")),
        ("count", ctypes.c_int64),
        ("bfloat16", ctypes.c_int32),
    )


class _Arguments(ctypes.Structure):
    """`EmbeddingSumArguments` of embedding_sum.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("tables", "y", "starts")),
        *((name, ctypes.c_int32) for name in ("table_count", "sequences", "width")),
    )


def embedding_table(weights: Tensor) -> EmbeddingTable | None:
    """The table of these weights, `[rows, width]`, without rows of tokens; None: the kernel does not read them."""
    if weights.device.type != "cpu" or weights.dtype not in _DTYPES:
        return None
    return EmbeddingTable(weights.data_ptr(), None, weights.shape[0], weights.dtype == torch.bfloat16)


def embedding_sum(tables: Items[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Sum the rows of tables in order, in float32, as PyTorch would; None: the kernel does not compute it here.

    tables: each with its weights, `[rows, width]`, and the row of each token, int32 `[tokens]`.

    Shapes: → float32 `[tokens, width]`.

    Raises:
        IndexError: a table does not have a token's row.
    """
    library = installed_library()
    found = [table for weights, _ in tables if (table := embedding_table(weights)) is not None]
    if library is None or len(found) < len(tables):
        return None
    for table, (_, rows) in zip(found, tables, strict=True):
        table.rows = rows.data_ptr()
    weights, rows = tables[0]
    tokens, width = rows.shape[0], weights.shape[1]
    y = torch.empty(tokens, width)
    of, starts = (EmbeddingTable * len(found))(*found), array("i", (0, tokens))
    arguments = _Arguments(
        ctypes.addressof(of), y.data_ptr(), starts.buffer_info()[0], table_count=len(of), sequences=1, width=width
    )
    if library.sie_embedding_sum(ctypes.byref(arguments)):
        raise IndexError(MISSING_ROW)
    return y
