"""Token ids that a client sends in place of texts."""

from typing import Protocol

from sie_server.errors import Code, SIEError
from sie_server.options import TokenIds

_ENCODING = "cl100k_base"
_REFUSED = (
    "Field '{field}' contains token ids, whose meaning depends on the tokenizer: send texts. LangChain's "
    "OpenAIEmbeddings sends texts with check_embedding_ctx_length=False. To accept token ids, start the server with "
    "--token-ids model or cl100k"
)


class Vocabulary(Protocol):
    """Reads token ids as a text. tiktoken's `Encoding` is one."""

    def decode(self, tokens: list[int]) -> str:
        """The text of these tokens. Raises KeyError or OverflowError for an id that none has."""
        ...


class TokenIdReader:
    """Reads token ids as a setting says."""

    def __init__(self, setting: TokenIds) -> None:
        """Raises ValueError: tiktoken or its file of the encoding is missing."""
        self._setting = setting
        self._vocabulary = _cl100k() if setting == "cl100k" else None

    def read(self, ids: list[int], field: str) -> str | list[int]:
        """The text of a client's token ids, or the ids themselves if they are the model's own.

        Raises:
            SIEError: INVALID_INPUT, token ids are not accepted, or one of them is no token's.
        """
        name = field.partition("[")[0]
        if self._setting == "refuse":
            raise SIEError(Code.INVALID_INPUT, _REFUSED.format(field=name), param=name)
        if self._vocabulary is None:
            return ids
        try:
            return self._vocabulary.decode(ids)
        except (KeyError, OverflowError):
            message = f"Field '{field}' contains an id that {_ENCODING} does not have"
            raise SIEError(Code.INVALID_INPUT, message, param=name) from None


def _cl100k() -> Vocabulary:
    try:
        import tiktoken
    except ModuleNotFoundError:
        raise ValueError("--token-ids cl100k needs the package tiktoken: pip install tiktoken") from None
    try:
        return tiktoken.get_encoding(_ENCODING)
    except Exception as error:  # of its HTTP client, which it imports itself
        raise ValueError(
            f"--token-ids cl100k: tiktoken has no file of {_ENCODING} and cannot download it ({type(error).__name__}); "
            "put it into the folder that TIKTOKEN_CACHE_DIR names"
        ) from None
