"""A batch as the device sees it: all tokens in one row, no padding."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from sie_server.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences laid end to end.

    ids, positions, type_ids: int32 `[tokens]`. cu_seqlens: int32 `[sequences + 1]`, the row where each sequence starts,
    closed by the total. runs: (first row, count, length) of neighbouring sequences of equal length.
    """

    ids: Tensor
    positions: Tensor
    type_ids: Tensor
    cu_seqlens: Tensor
    lengths: tuple[int, ...]
    runs: tuple[tuple[int, int, int], ...]

    @property
    def starts(self) -> Tensor:
        """Row of each sequence's first token: int32 `[sequences]`."""
        return self.cu_seqlens[:-1]

    @property
    def max_length(self) -> int:
        return max(self.lengths)

    @classmethod
    def of(cls, sequences: Iterable[Sequence], device: torch.device) -> "Packed":
        """Pack sequences in the order given and move them to `device`."""
        sequences = list(sequences)
        lengths = tuple(len(sequence) for sequence in sequences)
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        tokens = int(offsets[-1])
        arrays = {
            "ids": np.concatenate([sequence.ids for sequence in sequences]),
            "positions": np.arange(tokens) - np.repeat(offsets[:-1], lengths),
            "type_ids": np.concatenate([sequence.type_ids for sequence in sequences]),
            "cu_seqlens": offsets,
        }
        tensors = {name: torch.from_numpy(array.astype(np.int32)).to(device) for name, array in arrays.items()}
        return cls(**tensors, lengths=lengths, runs=tuple(_runs(lengths)))


def _runs(lengths: Iterable[int]) -> Iterable[tuple[int, int, int]]:
    row = 0
    for length, group in groupby(lengths):
        count = sum(1 for _ in group)
        yield row, count, length
        row += count * length
