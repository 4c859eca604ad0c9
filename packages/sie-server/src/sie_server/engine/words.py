"""Token ids of texts, of which words that were seen before need no tokenizer."""

import json
import threading
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from sie_server.engine.template import Ids, int32

# Texts at a time: an encoding takes a hundred bytes per token, of which four are kept, and the texts of another request
# wait for their turn as long.
_TEXTS = 128
# Of all remembered words; some 25 MiB in memory.
_MOST_CHARACTERS = 2**20
# A word by itself takes as long as about so many in a text: with more new ones the tokenizer is faster.
_WORDS_PER_NEW = 4
# What maps character by character, or composes what a space never takes part in (Unicode Standard Annex 15).
_NORMALIZERS = {"BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"}
# What ends a word at a space, and drops the space.
_SPLITTERS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}


class Words:
    """A tokenizer without its special tokens, and the ids of the words it has met. Thread-safe.

    Where a tokenizer reads what stands between two spaces by itself, as BERT's does, a text's ids are those of its
    words, one after the other: looking one up costs a tenth. `apart` says so. With any other tokenizer every text goes
    through it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.apart = _reads_words_apart(tokenizer)
        self._known: dict[str, bytes] = {}
        self._room = _MOST_CHARACTERS
        self._counting = threading.Lock()
        self._hits = self._misses = 0

    @property
    def known(self) -> int:
        """How many words are remembered."""
        return len(self._known)

    def counted(self) -> tuple[int, int]:
        """Words whose ids were known, and new ones, since this was last called."""
        with self._counting:
            counts = self._hits, self._misses
            self._hits = self._misses = 0
        return counts

    def encode(self, texts: Items[str]) -> list[Ids]:
        """Ids of each text: int32 `[length]`."""
        if not self.apart:
            return self._tokenized(texts)
        # Held on to: another thread may begin anew.
        known = self._known
        split = [text.split(" ") for text in texts]
        words = sum(map(len, split))
        try:
            ids = _looked_up(split, known)
        except KeyError:
            new = [*set(chain.from_iterable(split)).difference(known)]
        else:
            self._count(words, 0)
            return ids
        self._count(words, len(new))
        few = 1 + words // _WORDS_PER_NEW
        self._learn(new[:few], known)
        return _looked_up(split, known) if len(new) <= few else self._tokenized(texts)

    def _count(self, words: int, new: int) -> None:
        with self._counting:
            self._hits += words - new
            self._misses += new

    def _learn(self, words: list[str], known: dict[str, bytes]) -> None:
        known.update(zip(words, map(np.ndarray.tobytes, self._tokenized(words)), strict=True))
        self._room -= sum(map(len, words))
        if self._room < 0:
            self._known, self._room = {}, _MOST_CHARACTERS

    def _tokenized(self, texts: Items[str]) -> list[Ids]:
        return [int32(encoding.ids) for encoding in encodings(self._tokenizer, texts)]


def encodings(tokenizer: Tokenizer, texts: Items[str], offsets: bool = False) -> Iterator[Encoding]:
    """Encodings without special tokens, some texts at a time; the fast ones have no offsets."""
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    for start in range(0, len(texts), _TEXTS):
        yield from encode(list(texts[start : start + _TEXTS]), add_special_tokens=False)


def _looked_up(split: Items[Items[str]], known: Mapping[str, bytes]) -> list[Ids]:
    return [np.frombuffer(b"".join(map(known.__getitem__, words)), np.int32) for words in split]


def _reads_words_apart(tokenizer: Tokenizer) -> bool:
    added = tokenizer.get_added_tokens_decoder().values()
    if any(character.isspace() for token in added for character in token.content):
        return False
    splitters = _kinds(tokenizer.pre_tokenizer)
    return _kinds(tokenizer.normalizer) <= _NORMALIZERS and bool(splitters) and splitters <= _SPLITTERS


def _kinds(part: Any) -> set[str]:
    """Types of a normalizer or pre-tokenizer, or of those it is a sequence of; none where there is none."""
    if part is None:
        return set()
    # How the library pickles a part is how tokenizer.json has it.
    described = json.loads(part.__getstate__())
    parts = described.get("normalizers", described.get("pretokenizers", [described]))
    return {one["type"] for one in parts}
