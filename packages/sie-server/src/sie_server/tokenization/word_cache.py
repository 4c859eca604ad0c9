"""A tokenizer that caches the token ids of words."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from sie_server.errors import Code, SIEError
from sie_server.rust_panics import contained
from sie_server.stepwise import LONG_STEP, Steps, stepwise
from sie_server.tokenization.special_tokens import Ids, int32

# Texts and characters tokenized in one call. An `Encoding` takes about 100 bytes per token, of which 4 are kept; other
# threads run between calls.
_BATCH_TEXTS = 128
_BATCH_CHARACTERS = 2**14
# New words with at most this many characters in all are tokenized within a few milliseconds, whatever they are.
_SHORT_CHARACTERS = 2**10
# Longer words are not cached.
_MAX_WORD_CHARACTERS = 2**8
# Characters read per wanted token, if only the first tokens of a text are wanted.
_CHARACTERS_PER_TOKEN = 8
# Limit on the growth of a long text under normalization, checked for this many characters at a time. NFKC turns U+FDFA
# into 18 characters; 2 MB of it would take more than a GB to tokenize.
_MAX_GROWTH = 4
_NORMALIZED_AT_ONCE = 2**12
# Characters of all cached words; about 25 MiB in memory.
_MAX_CACHED_CHARACTERS = 2**20
# A word tokenized alone takes as long as about 4 words within a text: with more new words, whole texts are faster.
_WORDS_PER_NEW = 4
# Normalizers that map character by character, or compose characters other than spaces (Unicode Standard Annex 15).
_NORMALIZERS = {"BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"}
# Characters at which every one of the splitters splits, or that normalizers turn into spaces.
_SPACE = re.compile(r"[ \t\n\r]")
# Pre-tokenizers that split at spaces and drop them.
_SPLITTERS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}


class WordCache:
    """A tokenizer without special tokens that caches the ids of words. Thread-safe.

    enabled: whether the tokenizer reads each space-separated word on its own, as BERT's does. The ids of a text are
        then those of its words in order, and a lookup costs a tenth of tokenizing. Otherwise every text is tokenized.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.enabled = _reads_words_independently(tokenizer)
        self._ids: dict[str, bytes] = {}
        self._free_characters = _MAX_CACHED_CHARACTERS
        self._counts_lock = threading.Lock()
        self._hits = self._misses = 0

    @property
    def size(self) -> int:
        """Number of cached words."""
        return len(self._ids)

    def take_counts(self) -> tuple[int, int]:
        """Cache hits and misses, in words, since the last call."""
        with self._counts_lock:
            counts = self._hits, self._misses
            self._hits = self._misses = 0
        return counts

    @stepwise
    def encode(self, texts: Items[str], max_tokens: int | None = None) -> Steps[list[Ids]]:
        """Token ids of each text: int32 `[length]`.

        max_tokens: tokens wanted of a text, the rest of which may be left out; None: all.
        """
        step = _BATCH_CHARACTERS
        if max_tokens is not None and self.enabled:
            step = min(step, max_tokens * _CHARACTERS_PER_TOKEN)
        if len(texts) <= _BATCH_TEXTS and sum(map(len, texts)) <= step:
            return (yield from self._encode_batch(texts))
        ends = [_end(text, 0, step) if self.enabled else len(text) for text in texts]
        encoded: list[Ids] = []
        for start, stop in _batches(ends):
            yield sum(ends[start:stop])
            encoded += yield from self._encode_batch([texts[i][: ends[i]] for i in range(start, stop)])
        for i, (text, end) in enumerate(zip(texts, ends, strict=True)):
            if end < len(text) and (max_tokens is None or len(encoded[i]) < max_tokens):
                encoded[i] = yield from self._rest(text, end, encoded[i], max_tokens)
        return encoded

    def _rest(self, text: str, end: int, ids: Ids, max_tokens: int | None) -> Steps[Ids]:
        """Complete the ids of a text, given those of its first `end` characters."""
        parts, count = [ids], len(ids)
        while end < len(text) and (max_tokens is None or count < max_tokens):
            start, end = end, _end(text, end, _BATCH_CHARACTERS)
            yield end - start
            parts += yield from self._encode_batch([text[start:end]])
            count += len(parts[-1])
        return np.concatenate(parts)

    def _encode_batch(self, texts: Items[str]) -> Steps[list[Ids]]:
        """Token ids of each text. Yields only where the work is too long for the event loop."""
        if not self.enabled:
            return self._tokenize(texts)
        # A local reference: another thread may replace the dict by an empty one.
        cached = self._ids
        split = [text.split(" ") for text in texts]
        words = sum(map(len, split))
        try:
            ids = _look_up(split, cached)
        except KeyError:
            new = [*set(chain.from_iterable(split)).difference(cached)]
        else:
            self._count(words, 0)
            return ids
        self._count(words, len(new))
        if (characters := sum(map(len, new))) > _SHORT_CHARACTERS:
            yield characters
        worthwhile = 1 + words // _WORDS_PER_NEW
        whole_texts = len(new) > worthwhile or max(map(len, new)) > _MAX_WORD_CHARACTERS
        self._add([word for word in new[:worthwhile] if len(word) <= _MAX_WORD_CHARACTERS], cached)
        return self._tokenize(texts) if whole_texts else _look_up(split, cached)

    def _count(self, words: int, new: int) -> None:
        with self._counts_lock:
            self._hits += words - new
            self._misses += new

    def _add(self, words: list[str], cached: dict[str, bytes]) -> None:
        cached.update(zip(words, map(np.ndarray.tobytes, self._tokenize(words)), strict=True))
        self._free_characters -= sum(map(len, words))
        if self._free_characters < 0:
            self._ids, self._free_characters = {}, _MAX_CACHED_CHARACTERS

    def _tokenize(self, texts: Items[str]) -> list[Ids]:
        return [int32(encoding.ids) for encoding in encodings(self._tokenizer, texts)]


def encodings(tokenizer: Tokenizer, texts: Items[str], offsets: bool = False) -> Iterator[Encoding]:
    """Tokenize texts, in batches, without special tokens.

    offsets: whether the encodings need offsets into the text, which take longer.

    Raises:
        SIEError: INFERENCE_ERROR, the tokenizer raises or panics; INVALID_INPUT, normalization makes a long text far
            longer.
    """
    # Not `encode`, which holds the GIL.
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    for start, stop in _batches([*map(len, texts)]):
        try:
            with contained():
                _check_growth(tokenizer, texts[start])
                encoded = encode(list(texts[start:stop]), add_special_tokens=False)
        except SIEError:
            raise
        except Exception as error:  # the library raises bare Exception, and panics
            raise SIEError(Code.INFERENCE_ERROR, f"the model's tokenizer failed on a text: {error}") from error
        yield from encoded


def _check_growth(tokenizer: Tokenizer, text: str) -> None:
    """Check how much longer normalization makes a long text.

    Raises:
        SIEError: INVALID_INPUT, more than 4 times as long.
    """
    normalizer = tokenizer.normalizer
    if len(text) <= LONG_STEP or text.isascii() or normalizer is None:
        return
    length = 0
    for start in range(0, len(text), _NORMALIZED_AT_ONCE):
        length += len(normalizer.normalize_str(text[start : start + _NORMALIZED_AT_ONCE]))
        if length > _MAX_GROWTH * len(text):
            raise SIEError(
                Code.INVALID_INPUT,
                f"a text of {len(text):,} characters grows to more than {_MAX_GROWTH} times its length in the model's "
                f"normalizer, which is refused for texts of more than {LONG_STEP:,} characters",
            )


def _batches(lengths: Items[int]) -> Iterator[tuple[int, int]]:
    """Ranges of texts, by their lengths in characters, that are tokenized together."""
    start = characters = 0
    for i, length in enumerate(lengths):
        if i > start and (i - start == _BATCH_TEXTS or characters + length > _BATCH_CHARACTERS):
            yield start, i
            start, characters = i, 0
        characters += length
    if start < len(lengths):
        yield start, len(lengths)


def _end(text: str, start: int, step: int) -> int:
    """End of the part of a text that starts at `start`: the first space after `step` characters."""
    if len(text) - start <= step:
        return len(text)
    space = _SPACE.search(text, start + step)
    return len(text) if space is None else space.start()


def _look_up(split: Items[Items[str]], cached: Mapping[str, bytes]) -> list[Ids]:
    return [np.frombuffer(b"".join(map(cached.__getitem__, words)), np.int32) for words in split]


def _reads_words_independently(tokenizer: Tokenizer) -> bool:
    added = tokenizer.get_added_tokens_decoder().values()
    if any(character.isspace() for token in added for character in token.content):
        return False
    splitters = _kinds(tokenizer.pre_tokenizer)
    return _kinds(tokenizer.normalizer) <= _NORMALIZERS and bool(splitters) and splitters <= _SPLITTERS


def _kinds(part: Any) -> set[str]:
    """Types of a normalizer or pre-tokenizer, or of the members of a sequence of them."""
    if part is None:
        return set()
    # The library pickles a component as its JSON in tokenizer.json.
    description = json.loads(part.__getstate__())
    parts = description.get("normalizers", description.get("pretokenizers", [description]))
    return {component["type"] for component in parts}
