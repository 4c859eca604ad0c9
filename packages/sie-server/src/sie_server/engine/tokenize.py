"""Text → token ids. Queries and documents are tokenized apart and joined by id, exactly as a pair would be."""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from sie_server.engine.sequence import Sequence
from sie_server.errors import Code, SIEError, UnsupportedModelError

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Template:
    """Special tokens around the parts of an input, as the tokenizer's own post-processor places them.

    One entry more than there are parts: ids and type ids before, between and behind them. `part_types` holds the type
    id of each part's own tokens.
    """

    ids: tuple[Ids, ...]
    types: tuple[Ids, ...]
    part_types: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.ids))

    @classmethod
    def of(cls, encoding: Encoding, parts: int) -> "Template":
        """Read the template off an encoding of `parts` texts."""
        ids: list[list[int]] = [[] for _ in range(parts + 1)]
        types: list[list[int]] = [[] for _ in range(parts + 1)]
        part_types = [0] * parts
        seen = 0
        for token, type_id, part in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            if part is None:
                ids[seen].append(token)
                types[seen].append(type_id)
            else:
                seen = part + 1
                part_types[part] = type_id
        return cls(tuple(map(_int32, ids)), tuple(map(_int32, types)), tuple(part_types))

    def join(self, *parts: Ids) -> tuple[Ids, Ids]:
        """Ids and type ids of the parts with their special tokens: int32 `[sum of lengths + tokens]` each."""
        ids, types = [self.ids[0]], [self.types[0]]
        for part, part_type, after, after_types in zip(
            parts, self.part_types, self.ids[1:], self.types[1:], strict=True
        ):
            ids += [part, after]
            types += [np.full(len(part), part_type, np.int32), after_types]
        return np.concatenate(ids), np.concatenate(types)


class TextTokenizer:
    """A model's tokenizer with the truncation policy: a query is kept whole, a document is cut and marked as cut.

    Thread-safe. `max_length` counts tokens, special ones included. Without `token_types` all type ids are zero,
    also for a model that has one type and adds its row to every token.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int, token_types: bool) -> None:
        # A checkpoint may carry padding and truncation of its own; both are decided here.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._single = Template.of(tokenizer.encode("a"), parts=1)
        self._pair = Template.of(tokenizer.encode("a", "a"), parts=2)
        self._token_types = token_types
        self.max_length = max_length

    @classmethod
    def from_folder(cls, folder: Path, max_length: int, token_types: bool) -> "TextTokenizer":
        """Read `tokenizer.json`.

        Raises:
            UnsupportedModelError: it is missing or broken.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise UnsupportedModelError(f"{folder} has no tokenizer.json; save it with transformers' `save_pretrained`")
        try:
            return cls(Tokenizer.from_file(str(path)), max_length, token_types)
        except Exception as error:  # the library raises bare Exception
            raise UnsupportedModelError(f"{path} can't be read: {error}") from error

    def pairs(
        self, query: str, documents: Items[str], max_length: int | None = None, query_max_length: int | None = None
    ) -> list[Sequence]:
        """One sequence per document: `[CLS] query [SEP] document [SEP]` or what the model's template says.

        The query is cut only where `query_max_length` asks for it.

        Raises:
            SIEError: INPUT_TOO_LONG, the query alone leaves no room for a document.
        """
        limit = self._limit(max_length)
        query_ids = self._encode([query])[0][:query_max_length]
        room = limit - self._pair.tokens - len(query_ids)
        if room <= 0:
            raise SIEError(
                Code.INPUT_TOO_LONG,
                f"Field 'query' has {len(query_ids)} tokens and leaves no room for a document; "
                f"the limit for a pair is {limit} tokens, {self._pair.tokens} of them special",
            )
        return [
            self._sequence(*self._pair.join(query_ids, ids[:room]), truncated=len(ids) > room)
            for ids in self._encode(documents)
        ]

    def query(self, text: str, max_length: int | None = None, query_max_length: int | None = None) -> list[Sequence]:
        """A query on its own, whole unless `query_max_length` asks for a cut: one sequence.

        Raises:
            SIEError: INPUT_TOO_LONG, it does not fit.
        """
        limit = self._limit(max_length)
        ids = self._encode([text])[0][:query_max_length]
        if len(ids) + self._single.tokens > limit:
            raise SIEError(
                Code.INPUT_TOO_LONG,
                f"Field 'query' has {len(ids)} tokens; the limit is {limit}, {self._single.tokens} of them special",
            )
        return [self._sequence(*self._single.join(ids), truncated=False)]

    def singles(self, texts: Items[str], max_length: int | None = None) -> list[Sequence]:
        """One sequence per text, cut to the limit."""
        limit = self._limit(max_length)
        room = max(limit - self._single.tokens, 0)
        return [
            self._sequence(*self._single.join(ids[:room]), truncated=len(ids) > room) for ids in self._encode(texts)
        ]

    def _limit(self, max_length: int | None) -> int:
        """A request can lower the model's limit, not raise it."""
        return min(max_length or self.max_length, self.max_length)

    def _encode(self, texts: Items[str]) -> list[Ids]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [_int32(encoding.ids) for encoding in encodings]

    def _sequence(self, ids: Ids, types: Ids, truncated: bool) -> Sequence:
        return Sequence(ids, types if self._token_types else np.zeros_like(types), truncated)


def _int32(ids: list[int]) -> Ids:
    return np.array(ids, dtype=np.int32)
