"""What late interaction does to token ids: markers, expansion of queries, and which tokens have vectors."""

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sie_server.errors import Code, SIEError, UnsupportedModelError
from sie_server.tokenization.config import MASKS, LateInteraction
from sie_server.tokenization.special_tokens import Ids, Template, int32, token_id


class LateTokens:
    """`rules` over the ids of one tokenizer. `window`: the least one of the model's layers, where one has a window.

    Raises UnsupportedModelError where the tokenizer has no token to fill queries up with.
    """

    def __init__(self, rules: LateInteraction, tokenizer: Tokenizer, window: int | None) -> None:
        self.rules = rules
        self._tokenizer = tokenizer
        self._window = window
        self._skipped = int32([token for token in map(tokenizer.token_to_id, rules.skip) if token is not None])
        masks = [token for token in map(tokenizer.token_to_id, MASKS) if token is not None]
        if rules.expansion and not masks:
            raise UnsupportedModelError(f"the tokenizer has no mask token to fill up queries ({', '.join(MASKS)})")
        self._mask = masks[0] if masks else 0

    def marked(self, template: Template, marker: str) -> Template:
        """The template with the marker in it. PyLate's tokens end with a space, those of other tools do not.

        Raises:
            UnsupportedModelError: the tokenizer does not have the marker.
        """
        if not marker:
            return template
        found: int | None = self._tokenizer.token_to_id(marker)
        return template.marked(token_id(self._tokenizer, marker.strip()) if found is None else found)

    def expansion(self, missing: int) -> Ids:
        """What fills up a query that lacks so many tokens.

        Raises:
            SIEError: INVALID_INPUT, so many that some would see no token of the query.
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

    def kept(self, ids: Ids, query: bool) -> NDArray[np.bool_] | None:
        """Which tokens have a vector: bool `[length]`; None: all."""
        if not self.rules.first and (query or not len(self._skipped)):
            return None
        keep = np.ones(len(ids), np.bool_) if query else ~np.isin(ids, self._skipped)
        keep[: self.rules.first] = False
        return keep
