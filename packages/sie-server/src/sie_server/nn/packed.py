"""Packed batches: sequences laid end to end, without padding."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
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


@dataclass(frozen=True)
class Packed:
    """Sequences laid end to end.

    ids, positions, type_ids: int32 `[tokens]`; positions continue those of a sequence's prefix.
    cu_seqlens: int32 `[sequences + 1]`, row of each sequence's first token, ending with the total.
    key_cu_seqlens: the same for keys, which include prefixes.
    lengths: tokens per sequence, without its prefix. key_lengths: its keys, which include its prefix.
    max_positions: tokens of the longest sequence, including its prefix.
    shared: prefixes of the sequences; None: none has one.
    attended: int64 `[keys]`, rows of the tokens that others attend to; None: all.
    """

    ids: Tensor
    positions: Tensor
    type_ids: Tensor
    cu_seqlens: Tensor
    key_cu_seqlens: Tensor
    lengths: tuple[int, ...]
    key_lengths: tuple[int, ...]
    max_positions: int
    shared: SharedPrefixes | None
    attended: Tensor | None

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

    @classmethod
    def of(cls, sequences: Iterable[Sequence], device: torch.device) -> "Packed":
        """Pack sequences, in order, and move them to `device`.

        Every prefix must have been computed before or be among the sequences.
        """
        sequences = list(sequences)
        lengths = key_lengths = tuple([len(sequence.ids) for sequence in sequences])
        offsets = key_offsets = _offsets(lengths)
        positions = np.arange(offsets[-1], dtype=np.int32) - np.repeat(offsets[:-1], lengths)
        max_positions = max(lengths)
        shared = attended = None
        if any(sequence.prefix is not None or sequence.unattended for sequence in sequences):
            prefixes = [0 if sequence.prefix is None else len(sequence.prefix) for sequence in sequences]
            hidden = [sequence.unattended for sequence in sequences]
            key_lengths = tuple(map(sum, zip(prefixes, lengths, (-count for count in hidden), strict=True)))
            key_offsets = _offsets(key_lengths)
            positions += np.repeat(np.array(prefixes, np.int32), lengths)
            max_positions = max(map(sum, zip(prefixes, lengths, strict=True)))
            shared = _find_prefixes(sequences, offsets, device) if any(prefixes) else None
            attended = _attended(lengths, hidden).to(device) if any(hidden) else None
        arrays = {
            "ids": np.concatenate([sequence.ids for sequence in sequences], dtype=np.int32),
            "positions": positions,
            "type_ids": np.concatenate([sequence.type_ids for sequence in sequences], dtype=np.int32),
            "cu_seqlens": offsets,
            "key_cu_seqlens": key_offsets,
        }
        return cls(
            **{name: torch.from_numpy(array).to(device) for name, array in arrays.items()},
            lengths=lengths,
            key_lengths=key_lengths,
            max_positions=max_positions,
            shared=shared,
            attended=attended,
        )


def _offsets(lengths: Items[int]) -> NDArray[np.int32]:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _attended(lengths: Items[int], hidden: Items[int]) -> Tensor:
    remaining = np.concatenate([np.arange(length, 0, -1) for length in lengths])  # tokens to the end of the sequence
    return torch.from_numpy(np.flatnonzero(remaining > np.repeat(hidden, lengths)))


def _runs(lengths: Iterable[int], keys: Iterable[int]) -> Iterator[Run]:
    row = 0
    for (length, visible), group in groupby(zip(lengths, keys, strict=True)):
        count = sum(1 for _ in group)
        yield Run(row, count, length, visible)
        row += count * length


def _find_prefixes(sequences: list[Sequence], offsets: NDArray[np.int32], device: torch.device) -> SharedPrefixes:
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
