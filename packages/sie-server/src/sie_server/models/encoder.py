"""What every architecture has in common."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from sie_server.models.model_config import ModelConfig
from sie_server.nn.heads import ClassificationHead, LogitHead, Pooled, Projections
from sie_server.nn.packed import Packed
from sie_server.nn.rotary import Rotary
from sie_server.nn.sparse import SpladeHead, TokenWeights


class Encoder(nn.Module):
    """A transformer over packed tokens, with a head that scores where the checkpoint has one.

    outputs: of the head; 0 for none. lexical: the head that gives sparse vectors, where the checkpoint has one.
    projections: what token vectors go through. pooled: what a pooled one does. layers: the transformer's. rotary:
    angles of positions, where queries and keys are turned by them.
    ties: parameters that a checkpoint may leave out because they are (rows of) another.
    renames: hub name → ours, applied in order as plain text replacements; `name[i]` is the i-th block of rows of
    `name`. head_renames, lexical_renames: the same for these heads. ignored: what a checkpoint may hold beside that:
    heads of pre-training. has_own_head: the head is the checkpoint's own, so that what else stands there is not known.
    """

    renames: ClassVar[dict[str, str]]
    head_renames: ClassVar[dict[str, str]]
    ignored: ClassVar[tuple[str, ...]]
    has_own_head: bool = False
    lexical_renames: ClassVar[dict[str, str]] = {}
    ties: Mapping[str, str] = {}
    layers: nn.ModuleList

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        self.lexical: SpladeHead | TokenWeights | None = None
        self.rotary = Rotary(config.head_dim)
        self.projections = Projections(config.hidden_size, config.projections)
        self.pooled = Pooled(config.hidden_size, config.pooled)
        self.head: ClassificationHead | LogitHead | None = (
            ClassificationHead(config.hidden_size, config.head) if outputs else None
        )

    @property
    def first_only(self) -> bool:
        """Whether the head reads first tokens alone, so that the last layer need not compute more."""
        return isinstance(self.head, ClassificationHead) and self.head.pooling == "cls"

    @property
    def one_row(self) -> bool:
        """Whether `encode` gives one row per sequence, that of the token the head reads."""
        return self.first_only

    def forward(self, packed: Packed) -> tuple[Tensor, tuple[int, ...]]:
        """Hidden states float32 `[rows, hidden]`, and how many rows belong to each sequence: its tokens, or one."""
        hidden = self.encode(packed)
        return hidden, (1,) * len(packed.lengths) if self.one_row else packed.lengths

    def encode(self, packed: Packed) -> Tensor:
        """Hidden states float32: `[tokens, hidden]`, or `[sequences, hidden]` where `one_row`."""
        raise NotImplementedError
