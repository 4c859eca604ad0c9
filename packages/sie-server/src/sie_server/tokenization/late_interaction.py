"""Late interaction on token ids: markers, query expansion, and which tokens have vectors."""

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sie_server.errors import Code, SIEError, UnsupportedModelError
from sie_server.tokenization.config import MASKS, LateInteraction
from sie_server.tokenization.special_tokens import Ids, SpecialTokens, int32, token_id


class LateInteractionTokens:
    """Applies `rules` to the token ids of one tokenizer.

    window: smallest attention window of the model's layers, in tokens; None: no layer has one.

    Raises:
        UnsupportedModelError: queries are expanded, and the tokenizer has no mask token.
    """

    def __init__(self, rules: LateInteraction, tokenizer: Tokenizer, window: int | None) -> None:
        self.rules = rules
        self._tokenizer = tokenizer
        self._window = window
        self._skip = int32([token for token in map(tokenizer.token_to_id, rules.skip) if token is not None])
        masks = [token for token in map(tokenizer.token_to_id, MASKS) if token is not None]
        if rules.expansion and not masks:
            raise UnsupportedModelError(f"the tokenizer has no mask token to fill up queries ({', '.join(MASKS)})")
        self._mask = masks[0] if masks else 0

    def with_marker(self, special: SpecialTokens, marker: str) -> SpecialTokens:
        """Insert a marker into the special tokens. PyLate's markers end with a space, those of other tools do not.

        Raises:
            UnsupportedModelError: the tokenizer does not have the marker.
        """
        if not marker:
            return special
        token: int | None = self._tokenizer.token_to_id(marker)
        return special.with_marker(token_id(self._tokenizer, marker.strip()) if token is None else token)

    def expansion(self, missing: int) -> Ids:
        """Mask tokens for a query that is `missing` tokens short of its length: int32 `[missing]`.

        Raises:
            SIEError: INVALID_INPUT, some of them would be too far from the query to attend to any of its tokens.
        """
        if not self.rules.expansion:
            return int32([])
        if not self.rules.attend and self._window is not None and missing > self._window:
            raise SIEError(
                Code.INVALID_INPUT,
                f"Field 'options.query_max_length' adds {missing} tokens to the query; the model takes {self._window}",
                param="options.query_max_length",
            )
        return np.full(missing, self._mask, np.int32)

    def keep_mask(self, ids: Ids, query: bool) -> NDArray[np.bool_] | None:
        """Mask of the tokens that have a vector: bool `[length]`; None: all have one."""
        if not self.rules.first and (query or not len(self._skip)):
            return None
        keep = np.ones(len(ids), np.bool_) if query else ~np.isin(ids, self._skip)
        keep[: self.rules.first] = False
        return keep
