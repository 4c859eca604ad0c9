"""The CPU kernel for the sum of a token's embeddings."""

import ctypes
from collections.abc import Sequence as Items

import torch
from torch import Tensor

from sie_server.nn.kernels.library import installed_library

_DTYPES = (torch.float32, torch.bfloat16)


class _Table(ctypes.Structure):
    """`EmbeddingTable` of embedding_sum.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "rows")),
        ("count", ctypes.c_int64),
        ("bfloat16", ctypes.c_int32),
    )


class _Arguments(ctypes.Structure):
    """`EmbeddingSumArguments` of embedding_sum.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("tables", "y")),
        *((name, ctypes.c_int32) for name in ("table_count", "tokens", "width")),
    )


def embedding_sum(tables: Items[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Sum the rows of tables in order, in float32, as PyTorch would; None: the kernel does not compute it here.

    tables: each with its weights, `[rows, width]`, and the row of each token, int32 `[tokens]`.

    Shapes: → float32 `[tokens, width]`.

    Raises:
        IndexError: a table does not have a token's row.
    """
    library = installed_library()
    if library is None or any(weights.device.type != "cpu" or weights.dtype not in _DTYPES for weights, _ in tables):
        return None
    weights, rows = tables[0]
    tokens, width = rows.shape[0], weights.shape[1]
    y = torch.empty(tokens, width)
    of = (_Table * len(tables))(
        *(_Table(w.data_ptr(), r.data_ptr(), w.shape[0], w.dtype == torch.bfloat16) for w, r in tables)
    )
    arguments = _Arguments(ctypes.addressof(of), y.data_ptr(), len(tables), tokens, width)
    if library.sie_embedding_sum(ctypes.byref(arguments)):
        raise IndexError("a token's id, type or position is not in the table of embeddings")
    return y
