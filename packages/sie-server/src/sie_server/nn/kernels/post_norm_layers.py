"""The CPU kernel for a BERT-like encoder, embeddings and all layers, in one call."""

import ctypes
from collections.abc import Sequence as Items
from typing import NamedTuple

import torch
from torch import Tensor

from sie_server.nn.kernels.embedding_sum import MISSING_ROW, EmbeddingTable, embedding_table
from sie_server.nn.kernels.library import installed_library, vector_isa_level
from sie_server.nn.kernels.linear import LinearArguments, PanelLinear
from sie_server.nn.kernels.norm_rotary import NormRotaryArguments
from sie_server.nn.linear import Linear
from sie_server.nn.packed import Packed


class Norm(NamedTuple):
    """A LayerNorm. weight, bias: float32 `[width]`."""

    weight: Tensor
    bias: Tensor | None
    eps: float


class SummedEmbeddings(NamedTuple):
    """Embeddings of a token that are summed, in order, and then go through a norm.

    tables: `[rows, hidden]` each.
    """

    tables: Items[Tensor]
    norm: Norm


class PostNormLayer(NamedTuple):
    """The parts of a layer: self-attention and an MLP, each followed by the sum with its input and by a norm."""

    qkv: Linear
    attention_out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    mlp_norm: Norm


class _Layer(ctypes.Structure):
    """`PostNormLayer` of post_norm_layers.h, field by field."""

    _fields_ = (
        *((name, LinearArguments) for name in ("qkv", "attention_out", "up", "down")),
        *((name, NormRotaryArguments) for name in ("attention_norm", "mlp_norm")),
        ("levels", ctypes.c_int32 * 4),
    )


_Tables = ctypes.Array[EmbeddingTable]


class _LayersArguments(ctypes.Structure):
    """`PostNormLayersArguments` of post_norm_layers.h, field by field."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("tables", "layers", "starts", "x", "wide", "attended", "sum", "queries")
        ),
        ("embedding_norm", NormRotaryArguments),
        *((name, ctypes.c_int32) for name in ("table_count", "count", "sequences", "heads", "head_dim")),
        *((name, ctypes.c_int32) for name in ("first_only", "vector_level")),
    )


class PostNormLayers:
    """Computes the layers of an encoder by the kernels for single layers, with the same bits, in one call.

    The call releases the GIL once, where calls for each layer's parts would wait for it a dozen times per layer.

    embeds: whether it computes the embeddings too.
    """

    def __init__(
        self, layers: Items[PostNormLayer], heads: int, head_dim: int, embeddings: SummedEmbeddings | None = None
    ) -> None:
        """layers: `supports` them. embeddings: None: they are computed otherwise. The tensors must outlive this."""
        library = installed_library()
        assert library is not None
        self._call = library.sie_post_norm_layers
        self._layers = (_Layer * len(layers))(*map(_arguments, layers))
        self._constants = _LayersArguments(
            layers=ctypes.addressof(self._layers),
            count=len(layers),
            heads=heads,
            head_dim=head_dim,
            vector_level=vector_isa_level(),
        )
        tables = [] if embeddings is None else [*map(embedding_table, embeddings.tables)]
        known = [table for table in tables if table is not None]
        self.embeds = embeddings is not None and len(known) == len(tables)
        self._tables = (EmbeddingTable * len(known))(*known)
        if embeddings is not None:
            self._constants.embedding_norm, self._constants.table_count = _norm(embeddings.norm), len(known)
        hidden = heads * head_dim
        products = [
            (_panels(linear).outputs, _panels(linear).dtype) for layer in layers for linear in (layer.qkv, layer.up)
        ]
        self._wide_bytes = max(outputs * dtype.itemsize for outputs, dtype in products)
        self._attended_bytes = hidden * max(_panels(layer.qkv).dtype.itemsize for layer in layers)
        self._hidden = hidden

    @staticmethod
    def supports(layers: Items[PostNormLayer]) -> bool:
        """Whether the kernel computes all linear layers, of any number of rows."""
        return all(
            isinstance(linear.backend, PanelLinear) and linear.row_counts is None
            for layer in layers
            for linear in (layer.qkv, layer.attention_out, layer.up, layer.down)
        )

    def __call__(self, x: Tensor, packed: Packed, first_only: bool) -> Tensor:
        """Compute the layers; x is overwritten.

        Shapes: x float32 `[tokens, hidden]` → the same, or `[sequences, hidden]` of first tokens with `first_only`.

        Raises:
            MemoryError: scratch memory can't be allocated.
        """
        return self._run(x, None, packed, first_only)

    def encode(self, rows: Items[Tensor | None], packed: Packed, first_only: bool) -> Tensor:
        """Compute the embeddings and the layers, if it `embeds`.

        rows: of the tokens in each table, int32 `[tokens]`; None: their positions, of sequences without a prefix.

        Shapes: → as `__call__`.

        Raises:
            IndexError: a table does not have a token's row.
            MemoryError: scratch memory can't be allocated.
        """
        tables = type(self._tables).from_buffer_copy(self._tables)
        for table, of_tokens in zip(tables, rows, strict=True):
            table.rows = None if of_tokens is None else of_tokens.data_ptr()
        return self._run(torch.empty(packed.tokens, self._hidden), tables, packed, first_only)

    def _run(self, x: Tensor, tables: "_Tables | None", packed: Packed, first_only: bool) -> Tensor:
        tokens, sequences = packed.tokens, len(packed.lengths)
        # In one tensor, whose parts stay aligned.
        sizes = (self._wide_bytes * tokens, self._attended_bytes * tokens, 4 * self._hidden * tokens, 4 * sequences + 4)
        offsets = [0]
        for size in sizes:
            offsets.append(offsets[-1] + size + -size % _ALIGNMENT)
        scratch = torch.empty(offsets[-1], dtype=torch.uint8)
        arguments = _LayersArguments.from_buffer_copy(self._constants)
        address = scratch.data_ptr()
        arguments.tables = None if tables is None else ctypes.addressof(tables)
        arguments.starts, arguments.x = packed.cu_seqlens.data_ptr(), x.data_ptr()
        arguments.wide, arguments.attended, arguments.sum, arguments.queries = (address + at for at in offsets[:-1])
        arguments.sequences, arguments.first_only = sequences, first_only
        status = self._call(ctypes.byref(arguments))
        if status == _MISSING_ROW:
            raise IndexError(MISSING_ROW)
        if status:
            raise MemoryError("can't allocate memory for the layers of an encoder")
        return x[:sequences] if first_only else x


_MISSING_ROW = 2
_ALIGNMENT = 64


def _panels(linear: Linear) -> PanelLinear:
    assert isinstance(linear.backend, PanelLinear)
    return linear.backend


def _arguments(layer: PostNormLayer) -> _Layer:
    linears = [_panels(linear) for linear in (layer.qkv, layer.attention_out, layer.up, layer.down)]
    norms = [_norm(norm) for norm in (layer.attention_norm, layer.mlp_norm)]
    levels = (ctypes.c_int32 * 4)(*(linear.level for linear in linears))
    return _Layer(*(linear.constants for linear in linears), *norms, levels)


def _norm(norm: Norm) -> NormRotaryArguments:
    width = norm.weight.shape[0]
    return NormRotaryArguments(
        x_row=width,
        heads=1,
        width=width,
        weight=norm.weight.data_ptr(),
        bias=None if norm.bias is None else norm.bias.data_ptr(),
        eps=norm.eps,
    )
