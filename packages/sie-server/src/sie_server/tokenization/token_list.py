"""The tokens of texts with their places, and the texts of lists of tokens."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

from tokenizers import Tokenizer

from sie_server.errors import Code, SIEError
from sie_server.rust_panics import contained
from sie_server.stepwise import Steps, stepwise
from sie_server.tokenization.special_tokens import Ids, SpecialTokens
from sie_server.tokenization.word_cache import encodings


@dataclass(frozen=True, slots=True)
class TokenList:
    """The tokens of a text.

    before, after: ids and names of the special tokens around it. ids: of its own tokens. spans: of these in the text,
    in code points, half-open.
    """

    before: Items[tuple[int, str]]
    ids: Items[int]
    spans: Items[tuple[int, int]]
    after: Items[tuple[int, str]]


class TokenLists:
    """Lists tokens of one tokenizer. special: its special tokens around a text."""

    def __init__(self, tokenizer: Tokenizer, special: SpecialTokens) -> None:
        self._tokenizer = tokenizer
        self._special = special

    @stepwise
    def of(self, texts: Items[str]) -> Steps[list[TokenList]]:
        """The tokens of each text."""
        before, after = (self._named(ids) for ids in self._special.ids)
        found = []
        for text in texts:
            yield len(text)
            [encoding] = encodings(self._tokenizer, [text], offsets=True)
            found.append(TokenList(before, encoding.ids, encoding.offsets, after))
        return found

    @stepwise
    def decode(self, lists: Items[list[int]], *, skip_special: bool) -> Steps[list[str]]:
        """The text of each list of token ids. skip_special: leave special tokens out.

        Raises:
            SIEError: INVALID_INPUT, a number is no token's id; INFERENCE_ERROR, the tokenizer raises or panics.
        """
        size = self._tokenizer.get_vocab_size()
        texts: list[str] = []
        for ids in lists:
            yield len(ids)
            for token in ids:
                if not 0 <= token < size:
                    message = f"Field 'ids' has {token}, which is outside of the vocabulary of {size} tokens"
                    raise SIEError(Code.INVALID_INPUT, message, param="ids")
            try:
                with contained():
                    texts.append(self._tokenizer.decode(ids, skip_special_tokens=skip_special))
            except Exception as error:  # the library raises bare Exception, and panics
                raise SIEError(Code.INFERENCE_ERROR, f"the model's tokenizer failed at token ids: {error}") from error
        return texts

    def _named(self, ids: Ids) -> list[tuple[int, str]]:
        return [(token, self._tokenizer.id_to_token(token) or "") for token in ids.tolist()]
