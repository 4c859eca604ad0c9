"""Input embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.engine.packed import Packed
from sie_server.models.shape import ModelConfig
from sie_server.nn.linear import Linear
from sie_server.nn.norm import LayerNorm


class Embedding(nn.Module):
    """A lookup table. Shapes: ids int32 `[tokens]` → float32 `[tokens, hidden]`."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, hidden))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()


class BertEmbeddings(nn.Module):
    """Word + position + token type, then LayerNorm (Devlin et al. 2019, figure 2).

    Positions start at `config.position_offset`: RoBERTa's table keeps its first rows for padding. Without token types,
    or with rotary positions, none is added; embeddings narrower than the layers are projected to their width.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.word = Embedding(config.vocab_size, width)
        self.position = None if config.rotary_layers else Embedding(config.position_rows, width)
        self.token_type = Embedding(config.token_types, width) if config.token_types else None
        self.norm = LayerNorm(width, config.norm_eps)
        self.project = Linear(width, config.hidden_size) if width != config.hidden_size else None
        self.position_offset = config.position_offset

    def forward(self, packed: Packed) -> Tensor:
        # In the reference's order of addition, so that float32 sums agree to the last bit.
        x: Tensor = self.word(packed.ids)
        if self.token_type is not None:
            x = x + self.token_type(packed.type_ids)
        if self.position is not None:
            x = x + self.position(packed.positions + self.position_offset)
        x = self.norm(x)
        return x if self.project is None else self.project(x).float()
