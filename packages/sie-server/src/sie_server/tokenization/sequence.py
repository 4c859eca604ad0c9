"""Sequence: one tokenized input, the unit of work of the engine."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]


@dataclass(slots=True, eq=False)
class Sequence:
    """Token ids of one (query, document) pair or one text, including special tokens.

    ids, type_ids: int32 `[length]`, without those of `prefix`.
    document: index of its text in the call.
    tokens: range of that text's tokens that it holds.
    span: the part of that text that it holds, in code points, half-open; None unless documents are split into windows.
    truncated: whether the text was cut to fit.
    prefix: tokens in front of `ids`, computed once for all sequences that share them.
    keep: bool `[length]`, which tokens have vectors of their own; None: all.
    unattended: number of tokens at the end that attend to the other tokens and are attended to by none.
    """

    ids: NDArray[np.int32]
    type_ids: NDArray[np.int32]
    document: int = 0
    tokens: range = range(0)
    span: tuple[int, int] | None = None
    truncated: bool = False
    prefix: "Lead | None" = None
    keep: NDArray[np.bool_] | None = None
    unattended: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def token_vectors(self) -> int:
        """Number of its tokens that have a vector of their own."""
        return len(self) if self.keep is None else int(self.keep.sum())


class Lead:
    """A sequence that is computed once per request, in the batch of the request's first other sequences.

    It is a decoder's prefix, which the others attend to, or a query, with which a head compares the others. Two device
    threads may compute it at the same time, with bit-identical results.

    sequence: its tokens.
    layers: keys and values `[tokens, kv_heads, head_dim]` per layer, once computed; None if it is a query.
    computed: whether a batch with it has finished, so that later batches do not need it.
    """

    __slots__ = ("computed", "layers", "sequence")

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.layers: tuple[KeysValues, ...] | None = None
        self.computed = False

    def __len__(self) -> int:
        return len(self.sequence)
