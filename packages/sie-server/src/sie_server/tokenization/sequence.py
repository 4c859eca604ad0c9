"""The unit of work: one tokenized input."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]


@dataclass(slots=True, eq=False)
class Sequence:
    """Token ids of one (query, document) pair or one text, special tokens included.

    ids, type_ids: int32 `[length]`. `prefix` stands in front of them and is computed once for all that share it; the
    length is without it. `document`: which text of its call it holds. `tokens`: which of that text's tokens. `span`:
    which part of that text, in code points, half-open; None unless long documents go in windows. `truncated` says that
    text was cut to fit. `keep`: bool `[length]`, which tokens have vectors of their own; None: all. The last
    `unattended` tokens attend to the others, and none attends to them.
    """

    ids: NDArray[np.int32]
    type_ids: NDArray[np.int32]
    document: int = 0
    tokens: range = range(0)
    span: tuple[int, int] | None = None
    truncated: bool = False
    prefix: "Prefix | None" = None
    keep: NDArray[np.bool_] | None = None
    unattended: int = 0

    def __len__(self) -> int:
        return len(self.ids)


class Prefix:
    """Tokens in front of every document of one request; `sequence` goes through the model with the first of them.

    layers: keys and values `[tokens, kv_heads, head_dim]` of every layer, once they are computed. Two threads may both
    compute them: their bits are the same.
    """

    __slots__ = ("layers", "sequence")

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.layers: tuple[KeysValues, ...] | None = None

    def __len__(self) -> int:
        return len(self.sequence)
