"""Token ids of texts, of which words that were seen before need no tokenizer."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from sie_server.cooperative import LONG, Steps, stepwise
from sie_server.errors import Code, SIEError
from sie_server.rust_panics import contained
from sie_server.tokenization.special_tokens import Ids, int32

# Texts at a time, and their characters: an encoding takes a hundred bytes per token, of which four are kept, and others
# have their turn in between.
_TEXTS = 128
_CHARACTERS = 2**14
# Characters in new words that are tokenized in some milliseconds, even where all are the longest there are.
_FEW_CHARACTERS = 2**10
# A longer one is not remembered: there are no such words.
_LONGEST = 2**8
# What a token has, if it is to be worth it to look no further in a text than its first tokens.
_CHARACTERS_PER_TOKEN = 8
# A long text may become so many times as long where the tokenizer normalizes it, which is looked at for so many
# characters at a time. U+FDFA becomes 18 of NFKC, and 2 MB of it more than a GB while they are tokenized.
_MOST_GROWTH = 4
_NORMALIZED = 2**12
# Of all remembered words; some 25 MiB in memory.
_MOST_CHARACTERS = 2**20
# A word by itself takes as long as about so many in a text: with more new ones the tokenizer is faster.
_WORDS_PER_NEW = 4
# What maps character by character, or composes what a space never takes part in (Unicode Standard Annex 15).
_NORMALIZERS = {"BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"}
# Any splitter's, and what normalizers make spaces of.
_SPACE = re.compile(r"[ \t\n\r]")
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

    @stepwise
    def encode(self, texts: Items[str], most: int | None = None) -> Steps[list[Ids]]:
        """Ids of each text: int32 `[length]`. most: no more are wanted of a text, whose rest may be left out."""
        step = _CHARACTERS if most is None or not self.apart else min(_CHARACTERS, most * _CHARACTERS_PER_TOKEN)
        if len(texts) <= _TEXTS and sum(map(len, texts)) <= step:
            return (yield from self._at_once(texts))
        ends = [_end(text, 0, step) if self.apart else len(text) for text in texts]
        found: list[Ids] = []
        for start, stop in _parts(ends):
            yield sum(ends[start:stop])
            found += yield from self._at_once([texts[i][: ends[i]] for i in range(start, stop)])
        for i, (text, end) in enumerate(zip(texts, ends, strict=True)):
            if end < len(text) and (most is None or len(found[i]) < most):
                found[i] = yield from self._rest(text, end, found[i], most)
        return found

    def _rest(self, text: str, end: int, ids: Ids, most: int | None) -> Steps[Ids]:
        """Ids of a text whose first ones are known, those up to `end`."""
        parts, count = [ids], len(ids)
        while end < len(text) and (most is None or count < most):
            start, end = end, _end(text, end, _CHARACTERS)
            yield end - start
            parts += yield from self._at_once([text[start:end]])
            count += len(parts[-1])
        return np.concatenate(parts)

    def _at_once(self, texts: Items[str]) -> Steps[list[Ids]]:
        """Ids of each text. Steps only where a thread should do it."""
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
        if (characters := sum(map(len, new))) > _FEW_CHARACTERS:
            yield characters
        few = 1 + words // _WORDS_PER_NEW
        whole = len(new) > few or max(map(len, new)) > _LONGEST
        self._learn([word for word in new[:few] if len(word) <= _LONGEST], known)
        return self._tokenized(texts) if whole else _looked_up(split, known)

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
    """Encodings without special tokens, some texts at a time; the fast ones have no offsets.

    Raises:
        SIEError: INFERENCE_ERROR, the tokenizer fails at a text, in whichever way; INVALID_INPUT, it makes far too much
            of a long one.
    """
    # Not `encode`, which keeps other threads waiting.
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    for start, stop in _parts([*map(len, texts)]):
        try:
            with contained():
                _check_growth(tokenizer, texts[start])
                encoded = encode(list(texts[start:stop]), add_special_tokens=False)
        except SIEError:
            raise
        except Exception as error:  # the library raises bare Exception, and panics
            raise SIEError(Code.INFERENCE_ERROR, f"the model's tokenizer failed at a text: {error}") from error
        yield from encoded


def _check_growth(tokenizer: Tokenizer, text: str) -> None:
    """Raises SIEError: INVALID_INPUT, the text is long and becomes many times as long before it is tokenized."""
    normalizer = tokenizer.normalizer
    if len(text) <= LONG or text.isascii() or normalizer is None:
        return
    length = 0
    for start in range(0, len(text), _NORMALIZED):
        length += len(normalizer.normalize_str(text[start : start + _NORMALIZED]))
        if length > _MOST_GROWTH * len(text):
            raise SIEError(
                Code.INVALID_INPUT,
                f"a text of {len(text):,} characters becomes more than {_MOST_GROWTH} times as long in the model's "
                f"normalizer; texts of more than {LONG:,} characters must not",
            )


def _parts(lengths: Items[int]) -> Iterator[tuple[int, int]]:
    """Ranges of texts, given their lengths, that go together: 128 at most, and 16,384 characters, or one text."""
    start = characters = 0
    for i, length in enumerate(lengths):
        if i > start and (i - start == _TEXTS or characters + length > _CHARACTERS):
            yield start, i
            start, characters = i, 0
        characters += length
    if start < len(lengths):
        yield start, len(lengths)


def _end(text: str, start: int, step: int) -> int:
    """Where a part of a text ends that has so many characters or, up to the next space, more."""
    if len(text) - start <= step:
        return len(text)
    space = _SPACE.search(text, start + step)
    return len(text) if space is None else space.start()


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
