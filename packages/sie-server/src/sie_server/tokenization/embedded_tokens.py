"""The tokens that a model has embeddings for, which may be fewer than its tokenizer's vocabulary."""

from tokenizers import Tokenizer

from sie_server.errors import Code, FieldError, SIEError, UnsupportedModelError
from sie_server.tokenization.special_tokens import Ids, int32


class EmbeddedTokens:
    """Checks ids of tokens before the model looks their embeddings up.

    rows: number of token embeddings; None: as many as the vocabulary has tokens.
    missing: tokens of the vocabulary without an embedding, ordered by id.
    """

    def __init__(self, tokenizer: Tokenizer, rows: int | None) -> None:
        self._tokenizer, self._rows = tokenizer, rows
        self.missing: list[tuple[int, str]] = []
        if rows is not None:
            self.missing = sorted((index, token) for token, index in tokenizer.get_vocab().items() if index >= rows)

    def check(self, encoded: list[Ids], field: str | None = None) -> list[Ids]:
        """Return the ids of texts after checking that the model has embeddings for all of them.

        field: name of the request's field for the error; None: the texts are those of the items.

        Raises:
            FieldError: INVALID_INPUT, a token without an embedding.
        """
        if self._rows is not None and self.missing:
            for index, ids in enumerate(encoded):
                if len(ids) and (largest := int(ids.max())) >= self._rows:
                    raise FieldError(
                        Code.INVALID_INPUT,
                        field or f"items[{index}].text",
                        f"has the token {self._describe(largest)}; the model has embeddings for {self._rows} tokens",
                    )
        return encoded

    def check_special(self, special: Ids) -> None:
        """Check the tokens that are added to texts.

        Raises:
            UnsupportedModelError: one of them has no embedding.
        """
        if self._rows is not None and len(special) and (largest := int(special.max())) >= self._rows:
            raise UnsupportedModelError(
                f"the tokenizer adds the token {self._describe(largest)}; "
                f"the model has embeddings for {self._rows} tokens"
            )

    def check_own(self, ids: list[int], special: tuple[Ids, ...]) -> Ids:
        """Check a client's token ids, and remove special tokens around them.

        Raises:
            SIEError: INVALID_INPUT, an id is not that of a token with an embedding.
        """
        vocabulary = self._rows or self._tokenizer.get_vocab_size()
        for token in ids:
            if not 0 <= token < vocabulary:
                raise SIEError(
                    Code.INVALID_INPUT,
                    f"token id {token} is outside the model's vocabulary of {vocabulary} tokens",
                    param="input",
                )
        before, after = (part.tolist() for part in special)
        end = len(ids) - len(after)
        if len(before) <= end and ids[: len(before)] == before and ids[end:] == after:
            ids = ids[len(before) : end]
        return int32(ids)

    def _describe(self, token: int) -> str:
        return f"{self._tokenizer.id_to_token(token)!r} with id {token}"
