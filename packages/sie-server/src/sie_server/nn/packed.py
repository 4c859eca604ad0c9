"""Packed batches: sequences laid end to end, without padding."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sie_server.tokenization.sequence import Lead, Sequence

RowIndices = NDArray[np.int64]


class Run(NamedTuple):
    """Consecutive sequences of equal length.

    start: row of the first one's first token. length: tokens of each, without its prefix. keys: keys of each, which
    include its prefix.
    """

    start: int
    sequences: int
    length: int
    keys: int


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """Prefixes of a batch's sequences, and where their keys and values are.

    computed: prefixes that are part of this batch, and their rows.
    stored: prefixes computed in earlier batches.
    key_rows: int64 `[key_tokens]`, for each sequence the rows of its prefix and of its own tokens, in the concatenation
        of this batch's rows and those of `stored`.
    """

    computed: tuple[tuple[Lead, slice], ...]
    stored: tuple[Lead, ...]
    key_rows: Tensor


class Packed:
    """Sequences laid end to end. What only some encoders read is made when it is read.

    tokens: of all sequences, without prefixes. lengths: per sequence. key_lengths: its keys, which include its prefix.
    max_positions: tokens of the longest sequence, including its prefix.
    shared: prefixes of the sequences; None: none has one.
    attended: int64 `[keys]`, rows of the tokens that others attend to; None: all.
    """

    def __init__(self, sequences: Items[Sequence], device: torch.device) -> None:
        self._sequences = sequences
        self._device = device
        self.lengths = self.key_lengths = tuple([len(sequence.ids) for sequence in sequences])
        self.tokens = sum(self.lengths)
        self._offsets = self._key_offsets = _offsets(self.lengths)
        self.max_positions = max(self.lengths)
        self.shared: SharedPrefixes | None = None
        self.attended: Tensor | None = None
        self._prefixes: list[int] = []
        if any(sequence.prefix is not None or sequence.unattended for sequence in sequences):
            self._prefixes = [0 if sequence.prefix is None else len(sequence.prefix) for sequence in sequences]
            hidden = [sequence.unattended for sequence in sequences]
            totals = zip(self._prefixes, self.lengths, (-count for count in hidden), strict=True)
            self.key_lengths = tuple(map(sum, totals))
            self._key_offsets = _offsets(self.key_lengths)
            self.max_positions = max(map(sum, zip(self._prefixes, self.lengths, strict=True)))
            if any(self._prefixes):
                self.shared = _find_prefixes(sequences, self._offsets, device)
            if any(hidden):
                self.attended = _attended(self.lengths, hidden).to(device)

    @classmethod
    def of(cls, sequences: Iterable[Sequence], device: torch.device) -> "Packed":
        """Pack sequences, in order, and move them to `device`.

        Every prefix must have been computed before or be among the sequences.
        """
        return cls(list(sequences), device)

    @cached_property
    def ids(self) -> Tensor:
        """Token ids: int32 `[tokens]`."""
        return self._moved(np.concatenate([sequence.ids for sequence in self._sequences], dtype=np.int32))

    @cached_property
    def type_ids(self) -> Tensor:
        """Type ids: int32 `[tokens]`."""
        return self._moved(np.concatenate([sequence.type_ids for sequence in self._sequences], dtype=np.int32))

    @cached_property
    def positions(self) -> Tensor:
        """Positions, which continue those of a sequence's prefix: int32 `[tokens]`."""
        positions = np.arange(self.tokens, dtype=np.int32) - np.repeat(self._offsets[:-1], self.lengths)
        if self._prefixes:
            positions += np.repeat(np.array(self._prefixes, np.int32), self.lengths)
        return self._moved(positions)

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """Row of each sequence's first token, ending with the total: int32 `[sequences + 1]`."""
        return self._moved(self._offsets)

    @cached_property
    def key_cu_seqlens(self) -> Tensor:
        """The same for keys, which include prefixes."""
        return self._moved(self._key_offsets)

    @property
    def starts(self) -> Tensor:
        """Row of each sequence's first token: int32 `[sequences]`."""
        return self.cu_seqlens[:-1]

    @property
    def ends(self) -> Tensor:
        """Row of each sequence's last token: int32 `[sequences]`."""
        return self.cu_seqlens[1:] - 1

    @property
    def max_length(self) -> int:
        return max(self.lengths)

    @property
    def max_keys(self) -> int:
        """Largest number of keys of a sequence, including its prefix."""
        return max(self.key_lengths)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Consecutive sequences of equal length."""
        return tuple(_runs(self.lengths, self.key_lengths))

    def _moved(self, array: NDArray[np.int32]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self._device.type == "cpu" else tensor.to(self._device)


def _offsets(lengths: Items[int]) -> NDArray[np.int32]:
    return np.array([*accumulate(lengths, initial=0)], np.int32)


def _attended(lengths: Items[int], hidden: Items[int]) -> Tensor:
    remaining = np.concatenate([np.arange(length, 0, -1) for length in lengths])  # tokens to the end of the sequence
    return torch.from_numpy(np.flatnonzero(remaining > np.repeat(hidden, lengths)))


def _runs(lengths: Iterable[int], keys: Iterable[int]) -> Iterator[Run]:
    row = 0
    for (length, visible), group in groupby(zip(lengths, keys, strict=True)):
        count = sum(1 for _ in group)
        yield Run(row, count, length, visible)
        row += count * length


def _find_prefixes(sequences: Items[Sequence], offsets: NDArray[np.int32], device: torch.device) -> SharedPrefixes:
    own_rows = {id(s): np.arange(start, start + len(s)) for s, start in zip(sequences, offsets[:-1], strict=True)}
    prefix_rows: dict[int, RowIndices] = {}
    computed: list[tuple[Lead, slice]] = []
    stored: list[Lead] = []
    end = int(offsets[-1])
    for prefix in {id(s.prefix): s.prefix for s in sequences if s.prefix is not None}.values():
        rows = own_rows.get(id(prefix.sequence))
        if rows is not None:
            computed.append((prefix, slice(int(rows[0]), int(rows[-1]) + 1)))
        else:
            rows = np.arange(end, end + len(prefix))
            stored.append(prefix)
            end += len(prefix)
        prefix_rows[id(prefix)] = rows
    keys: list[RowIndices] = []
    for sequence in sequences:
        if sequence.prefix is not None:
            keys.append(prefix_rows[id(sequence.prefix)])
        keys.append(own_rows[id(sequence)])
    return SharedPrefixes(tuple(computed), tuple(stored), torch.from_numpy(np.concatenate(keys)).to(device))
