"""The unit of work: one tokenized input."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sie_server.engine.request import Request
    from sie_server.nn.prefix_cache import Prefix


@dataclass(slots=True, eq=False)
class Sequence:
    """Token ids of one (query, document) pair or one text, special tokens included.

    ids, type_ids: int32 `[length]`. `prefix` stands in front of them and is computed once for all that share it; the
    length is without it. `document`: which text of its call it holds. `tokens`: which of that text's tokens. `span`:
    which part of that text, in code points, half-open; None unless long documents go in windows. `truncated` says that
    text was cut to fit. `keep`: bool `[length]`, which tokens have vectors of their own; None: all. The last
    `unattended` tokens attend to the others, and none attends to them. A scheduled sequence belongs to `request`, whose
    result number `index` it produces.
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
    index: int = 0
    request: "Request | None" = None

    def __len__(self) -> int:
        return len(self.ids)
