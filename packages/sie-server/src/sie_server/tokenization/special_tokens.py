"""Special tokens around the parts of an input."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from sie_server.errors import UnsupportedModelError
from sie_server.rust_panics import contained

Ids = NDArray[np.int32]
_AT_ONCE = 2**16
# A vocabulary without a token for what is unknown may lack some of these.
_TEXTS = ("a", "the", "1", ".", "中", "[UNK]", "<unk>")


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
    def read(cls, tokenizer: Tokenizer, parts: int) -> "Template":
        """Read the template of a tokenizer for `parts` texts off what it makes of some.

        Raises:
            UnsupportedModelError: it fails at them, or leaves some out.
        """
        for text in _TEXTS:
            try:
                with contained():
                    encoding = tokenizer.encode(text, text if parts == 2 else None)
            except Exception as error:  # the library raises bare Exception, and panics
                raise UnsupportedModelError(f"the tokenizer failed at {parts} texts {text!r}: {error}") from error
            if {*range(parts)} <= {*encoding.sequence_ids}:
                return cls.of(encoding, parts)
        raise UnsupportedModelError(f"the tokenizer leaves out parts of {parts} texts such as {', '.join(_TEXTS)}")

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
        return cls(tuple(map(int32, ids)), tuple(map(int32, types)), tuple(part_types))

    def marked(self, marker: int) -> "Template":
        """With one token more, behind the first special one."""
        front, *ids = self.ids
        front_types, *types = self.types
        return Template(
            (np.insert(front, 1, marker), *ids), (np.insert(front_types, 1, front_types[0]), *types), self.part_types
        )

    def join(self, *parts: Ids) -> tuple[Ids, Ids]:
        """Ids and type ids of the parts with their special tokens: int32 `[sum of lengths + tokens]` each."""
        ids, types = [self.ids[0]], [self.types[0]]
        for part, part_type, after, after_types in zip(
            parts, self.part_types, self.ids[1:], self.types[1:], strict=True
        ):
            ids += [part, after]
            types += [np.full(len(part), part_type, np.int32), after_types]
        return np.concatenate(ids), np.concatenate(types)


def int32(ids: list[int]) -> Ids:
    """Token ids as an array: int32 `[length]`."""
    if len(ids) <= _AT_ONCE:
        return np.array(ids, dtype=np.int32)
    # Python's lock is not given away within a call.
    starts = range(0, len(ids), _AT_ONCE)
    return np.concatenate([np.array(ids[start : start + _AT_ONCE], dtype=np.int32) for start in starts])


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of a token of the vocabulary.

    Raises:
        UnsupportedModelError: there is none.
    """
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise UnsupportedModelError(f"the tokenizer has no token {token!r}, which the model needs")
    return found
