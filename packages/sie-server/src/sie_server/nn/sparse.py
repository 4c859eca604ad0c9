"""Sparse vectors over the vocabulary."""

from collections.abc import Sequence as Items

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sie_server.nn.heads import StatelessHead
from sie_server.nn.linear import Linear
from sie_server.nn.norm import LayerNorm
from sie_server.options import Activation
from sie_server.tokenization.sequence import Sequence

# Token ids, ascending int32, and their weights, float32.
SparseVector = tuple[NDArray[np.int32], NDArray[np.float32]]


class SpladeHead(StatelessHead, nn.Module):
    """SPLADE (Formal et al. 2021, equation 2 with max pooling): ln(1 + max(0, the largest logit over the tokens)).

    Returns for each sequence the token ids with a weight above zero, ascending int32, and their weights, float32.
    """

    def __init__(self, hidden: int, vocabulary: int, norm_eps: float, activation: Activation) -> None:
        super().__init__()
        self.dense = Linear(hidden, hidden, activation=activation)
        self.norm = LayerNorm(hidden, norm_eps)
        self.decoder = Linear(hidden, vocabulary)

    def forward(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[SparseVector]:
        x = self.norm(self.dense(hidden))
        return [self._weights(rows) for rows in torch.split(x, list(lengths))]

    def _weights(self, rows: Tensor) -> SparseVector:
        # One sequence at a time: the logits of a batch, tokens by vocabulary, would be hundreds of megabytes.
        weights = self.decoder(rows).amax(dim=0).float().clamp(min=0).log1p()
        indices = weights.nonzero()[:, 0]
        return indices.int().cpu().numpy(), weights[indices].cpu().numpy()


class TokenWeights(StatelessHead, nn.Module):
    """Weights of the tokens of a text (Chen et al. 2024, M3-Embedding, section 3.1): max(0, hᵀw + b).

    A token that occurs more than once has its largest weight, a `special` token none. Returns for each sequence the
    token ids with a weight above zero, ascending int32, and their weights, float32.
    """

    def __init__(self, hidden: int, special: Items[int]) -> None:
        super().__init__()
        self.out = Linear(hidden, 1)
        self._special = np.array(special, np.int32)

    def forward(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[SparseVector]:
        weights = self.out(hidden)[:, 0].clamp(min=0).cpu()
        rows = torch.split(weights, list(lengths))
        return [self._vector(sequence.ids, row.numpy()) for sequence, row in zip(sequences, rows, strict=True)]

    def _vector(self, ids: NDArray[np.int32], weights: NDArray[np.float32]) -> SparseVector:
        # Not `> 0`, which would hide a NaN.
        counted = ~(weights <= 0) & ~np.isin(ids, self._special)
        tokens, positions = np.unique(ids[counted], return_inverse=True)
        largest = np.zeros(len(tokens), np.float32)
        np.maximum.at(largest, positions, weights[counted])
        return tokens, largest
