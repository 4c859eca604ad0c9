"""Input embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.models.model_config import ModelConfig
from sie_server.nn.linear import Linear
from sie_server.nn.norm import LayerNorm
from sie_server.nn.packed import Packed


class Embedding(nn.Module):
    """A lookup table. Shapes: ids int32 `[tokens]` → float32 `[tokens, hidden]`."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, hidden))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()


class BertEmbeddings(nn.Module):
    """Word + position + token type, then LayerNorm (Devlin et al. 2019, figure 2).

    Positions start at `config.position_offset`: RoBERTa's table keeps its first rows for padding, the last of them for
    the padding token itself, which has that row wherever a text holds it and is not counted. Without token types, or
    with positions in the attention alone, none is added; embeddings narrower than the layers are projected to their
    width, behind the norm (ELECTRA) or before it and without a bias (DeBERTa).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.word = Embedding(config.vocab_size, width)
        self.position = Embedding(config.position_rows, width) if config.positions_in_input else None
        self.token_type = Embedding(config.token_types, width) if config.token_types else None
        self.project: Linear | None = None
        if width != config.hidden_size:
            self.project = Linear(width, config.hidden_size, bias=not config.project_before_norm)
        self.project_before_norm = config.project_before_norm
        self.norm = LayerNorm(config.hidden_size if config.project_before_norm else width, config.norm_eps)
        self.position_offset = config.position_offset

    def forward(self, packed: Packed) -> Tensor:
        # In the reference's order of addition, so that float32 sums agree to the last bit.
        x: Tensor = self.word(packed.ids)
        if self.token_type is not None:
            x = x + self.token_type(packed.type_ids)
        if self.position is not None:
            x = x + self.position(self._rows(packed))
        if self.project is not None and self.project_before_norm:
            x = self.project(x)
        x = self.norm(x)
        if self.project is not None and not self.project_before_norm:
            x = self.project(x).float()
        return x

    def _rows(self, packed: Packed) -> Tensor:
        """Each token's row in the table of positions: int32 `[tokens]`."""
        rows = packed.positions + self.position_offset
        padding = self.position_offset - 1
        if padding < 0 or not (pads := packed.ids == padding).any():
            return rows
        seen = pads.cumsum(0, dtype=torch.int32)
        lengths = torch.tensor(packed.lengths, device=seen.device)
        before = (seen - pads.int())[packed.starts].repeat_interleave(lengths)
        return rows.sub(seen - before).masked_fill(pads, padding)
