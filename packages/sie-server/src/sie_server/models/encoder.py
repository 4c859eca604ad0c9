"""Base class of all architectures."""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn

from sie_server.models.model_config import ModelConfig
from sie_server.nn.heads import ClassificationHead, LogitHead, Pooled, Projections
from sie_server.nn.packed import Packed
from sie_server.nn.rotary import Rotary
from sie_server.nn.sparse import SpladeHead, TokenWeights


class Encoder(nn.Module):
    """A transformer over packed tokens, with its heads.

    layers: the transformer layers.
    head: scores sequences; None with `outputs` 0, its number of outputs.
    sparse: sparse vectors; None: the checkpoint has no such head.
    projections: applied to token vectors. pooled: applied to pooled vectors.
    rotary: tables of rotary positions.
    renames: checkpoint's names → ours, applied in order as plain text replacements; `name[i]` is the i-th block of rows
        of `name`. head_renames, sparse_renames: the same for these heads.
    ties: parameters that a checkpoint may omit because they equal another parameter or rows of it.
    ignored: prefixes of a checkpoint's other tensors, such as heads of pre-training.
    parameter_count: number of parameters, once they have values; linear layers then rearrange theirs.
    has_own_head: whether the checkpoint's head is not one of the architecture's, so that further tensors are ignored.
    """

    renames: ClassVar[dict[str, str]]
    head_renames: ClassVar[dict[str, str]]
    ignored: ClassVar[tuple[str, ...]]
    has_own_head: bool = False
    parameter_count: int = 0
    sparse_renames: ClassVar[dict[str, str]] = {}
    ties: Mapping[str, str] = {}
    layers: nn.ModuleList

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        self.sparse: SpladeHead | TokenWeights | None = None
        self.rotary = Rotary(config.head_dim)
        self.projections = Projections(config.hidden_size, config.projections)
        self.pooled = Pooled(config.hidden_size, config.pooled)
        self.head: ClassificationHead | LogitHead | None = (
            ClassificationHead(config.hidden_size, config.head) if outputs else None
        )

    @cached_property
    def first_only(self) -> bool:
        """Whether the last layer computes first tokens only, because the head reads no others."""
        return isinstance(self.head, ClassificationHead) and self.head.pooling == "cls"

    @property
    def one_row(self) -> bool:
        """Whether `encode` returns one row per sequence, that of the token which the head reads."""
        return self.first_only

    def forward(self, packed: Packed) -> tuple[Tensor, tuple[int, ...]]:
        """Compute hidden states, float32 `[rows, hidden]`, and the number of rows per sequence: its tokens, or 1."""
        hidden = self.encode(packed)
        return hidden, (1,) * len(packed.lengths) if self.one_row else packed.lengths

    def encode(self, packed: Packed) -> Tensor:
        """Compute hidden states, float32 `[tokens, hidden]`, or `[sequences, hidden]` with `one_row`."""
        raise NotImplementedError
