"""Special tokens around the texts of an input, as the tokenizer's post-processor places them."""

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from sie_server.errors import UnsupportedModelError
from sie_server.rust_panics import contained

Ids = NDArray[np.int32]
_CONVERTED_AT_ONCE = 2**16
# A vocabulary without an unknown token may tokenize some of these to nothing.
_PROBES = ("a", "the", "1", ".", "中", "[UNK]", "<unk>")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Special tokens before, between and after the parts (texts) of an input.

    ids, types: token ids and type ids, one int32 array before each part and one after the last.
    part_types: type id of each part's own tokens.
    """

    ids: tuple[Ids, ...]
    types: tuple[Ids, ...]
    part_types: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Number of special tokens."""
        return sum(map(len, self.ids))

    @classmethod
    def read(cls, tokenizer: Tokenizer, parts: int) -> "SpecialTokens":
        """Find a tokenizer's special tokens for `parts` texts by tokenizing probe texts.

        Raises:
            UnsupportedModelError: the tokenizer fails on a probe, or drops a text from every one of them.
        """
        for text in _PROBES:
            try:
                with contained():
                    encoding = tokenizer.encode(text, text if parts == 2 else None)
            except Exception as error:  # the library raises bare Exception, and panics
                raise UnsupportedModelError(f"the tokenizer fails on the text {text!r}: {error}") from error
            if {*range(parts)} <= {*encoding.sequence_ids}:
                return cls.of(encoding, parts)
        what = "a text" if parts == 1 else "one of two texts"
        raise UnsupportedModelError(f"the tokenizer drops {what}; tried with {', '.join(_PROBES)}")

    @classmethod
    def of(cls, encoding: Encoding, parts: int) -> "SpecialTokens":
        """Extract the special tokens from an encoding of `parts` texts."""
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
        return cls(tuple(map(int32, ids)), tuple(map(int32, types)), tuple(part_types))

    def with_marker(self, marker: int) -> "SpecialTokens":
        """A copy with the token `marker` inserted after the first special token."""
        front, *ids = self.ids
        front_types, *types = self.types
        return SpecialTokens(
            (np.insert(front, 1, marker), *ids), (np.insert(front_types, 1, front_types[0]), *types), self.part_types
        )

    def join(self, *parts: Ids) -> tuple[Ids, Ids]:
        """Join the parts' token ids with the special tokens.

        Returns ids and type ids, int32 `[sum of the parts' lengths + tokens]` each.
        """
        ids, types = [self.ids[0]], [self.types[0]]
        for part, part_type, after, after_types in zip(
            parts, self.part_types, self.ids[1:], self.types[1:], strict=True
        ):
            ids += [part, after]
            types += [np.full(len(part), part_type, np.int32), after_types]
        return np.concatenate(ids), np.concatenate(types)

    def joiner(self, first: Ids, longest: int) -> "Joiner":
        """A function that does what `join` does, with this first part and any second parts of up to `longest` tokens.

        Parts with equal type ids share one array of them, which is read-only.
        """
        second_type, after, after_types = self.part_types[1], self.ids[2], self.types[2]
        if (after_types != second_type).any():
            return lambda seconds: [self.join(first, second) for second in seconds]
        front = np.concatenate((self.ids[0], first, self.ids[1]))
        first_types = np.full(len(first), self.part_types[0], np.int32)
        others = np.full(longest + len(after), second_type, np.int32)
        types = np.concatenate((self.types[0], first_types, self.types[1], others))
        types.flags.writeable = False
        special = len(front) + len(after)

        def joined(seconds: Items[Ids]) -> list[tuple[Ids, Ids]]:
            # In one array: a call for each part would take longer than all else.
            every = np.concatenate([part for second in seconds for part in (front, second, after)])
            lengths = [special + len(second) for second in seconds]
            return [
                (every[end - length : end], types[:length])
                for end, length in zip(accumulate(lengths), lengths, strict=True)
            ]

        return joined


# Joins second parts with the first one: ids and type ids of each.
Joiner = Callable[[Items[Ids]], list[tuple[Ids, Ids]]]


def int32(ids: list[int]) -> Ids:
    """Convert token ids to an int32 array `[length]`."""
    if len(ids) <= _CONVERTED_AT_ONCE:
        return np.array(ids, dtype=np.int32)
    # In pieces: the GIL is held for the whole of one conversion.
    starts = range(0, len(ids), _CONVERTED_AT_ONCE)
    return np.concatenate([np.array(ids[start : start + _CONVERTED_AT_ONCE], dtype=np.int32) for start in starts])


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Look up the id of a token.

    Raises:
        UnsupportedModelError: the vocabulary does not have it.
    """
    index: int | None = tokenizer.token_to_id(token)
    if index is None:
        raise UnsupportedModelError(f"the tokenizer has no token {token!r}, which the model needs")
    return index
