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
    prefix: "Lead | None" = None
    keep: NDArray[np.bool_] | None = None
    unattended: int = 0

    def __len__(self) -> int:
        return len(self.ids)


class Lead:
    """A sequence that goes through the encoder once per request, in the batch with the first of the others.

    A decoder's prefix, which the others attend to, or a query, which a head compares them with. layers: keys and values
    `[tokens, kv_heads, head_dim]` of every layer, if the others attend to it. computed: whether a batch with it is
    through, so that no further one needs it. Two device threads may both compute it, with the same bits.
    """

    __slots__ = ("computed", "layers", "sequence")

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.layers: tuple[KeysValues, ...] | None = None
        self.computed = False

    def __len__(self) -> int:
        return len(self.sequence)
