"""A batch as the device sees it: all tokens in one row, no padding."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sie_server.tokenization.sequence import Lead, Sequence

Rows = NDArray[np.int64]


class Run(NamedTuple):
    """Neighbouring sequences of equal `length`, the first from row `start` on, whose tokens attend to `keys` each."""

    start: int
    sequences: int
    length: int
    keys: int


@dataclass(frozen=True, slots=True)
class Shared:
    """Where the keys of sequences with a prefix come from.

    computed: prefixes that are part of this batch, with their rows. stored: those computed before. key_rows: int64
    `[key_tokens]`, for each sequence in turn the rows of its prefix and its own, in a table of this batch's rows
    followed by those of `stored`.
    """

    computed: tuple[tuple[Lead, slice], ...]
    stored: tuple[Lead, ...]
    key_rows: Tensor


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences laid end to end.

    ids, positions, type_ids: int32 `[tokens]`; positions count a prefix. cu_seqlens: int32 `[sequences + 1]`, the row
    where each sequence starts, closed by the total; key_cu_seqlens: the same for keys, prefixes included. lengths:
    tokens per sequence without its prefix. most_positions: of a sequence, its prefix included. attended: int64
    `[keys]`, rows of the tokens that are attended to, where those are not all.
    """

    ids: Tensor
    positions: Tensor
    type_ids: Tensor
    cu_seqlens: Tensor
    key_cu_seqlens: Tensor
    lengths: tuple[int, ...]
    most_positions: int
    runs: tuple[Run, ...]
    shared: Shared | None
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
        """Most keys of a sequence, its prefix included."""
        return max(run.keys for run in self.runs)

    @classmethod
    def of(cls, sequences: Iterable[Sequence], device: torch.device) -> "Packed":
        """Pack sequences in the order given and move them to `device`.

        A prefix that is neither computed yet nor among the sequences is an error of the caller's.
        """
        sequences = list(sequences)
        lengths = tuple(len(sequence) for sequence in sequences)
        prefixes = [0 if sequence.prefix is None else len(sequence.prefix) for sequence in sequences]
        hidden = [sequence.unattended for sequence in sequences]
        keys = [sum(counts) for counts in zip(prefixes, lengths, (-count for count in hidden), strict=True)]
        offsets = _offsets(lengths)
        tokens = int(offsets[-1])
        arrays = {
            "ids": np.concatenate([sequence.ids for sequence in sequences]),
            "positions": np.arange(tokens) - np.repeat(offsets[:-1] - prefixes, lengths),
            "type_ids": np.concatenate([sequence.type_ids for sequence in sequences]),
            "cu_seqlens": offsets,
            "key_cu_seqlens": _offsets(keys),
        }
        tensors = {name: torch.from_numpy(array.astype(np.int32)).to(device) for name, array in arrays.items()}
        shared = _share(sequences, offsets, device) if any(prefixes) else None
        attended = _attended(lengths, hidden).to(device) if any(hidden) else None
        runs = tuple(_runs(lengths, keys))
        most = max(map(sum, zip(prefixes, lengths, strict=True)))
        return cls(**tensors, lengths=lengths, most_positions=most, runs=runs, shared=shared, attended=attended)


def _offsets(lengths: Items[int]) -> Rows:
    return np.concatenate(([0], np.cumsum(lengths)))


def _attended(lengths: Items[int], hidden: Items[int]) -> Tensor:
    behind = np.concatenate([np.arange(length, 0, -1) for length in lengths])  # tokens from here to the sequence's end
    return torch.from_numpy(np.flatnonzero(behind > np.repeat(hidden, lengths)))


def _runs(lengths: Iterable[int], keys: Iterable[int]) -> Iterator[Run]:
    row = 0
    for (length, visible), group in groupby(zip(lengths, keys, strict=True)):
        count = sum(1 for _ in group)
        yield Run(row, count, length, visible)
        row += count * length


def _share(sequences: list[Sequence], offsets: Rows, device: torch.device) -> Shared:
    own = {id(s): np.arange(start, start + len(s)) for s, start in zip(sequences, offsets[:-1], strict=True)}
    front: dict[int, Rows] = {}
    computed: list[tuple[Lead, slice]] = []
    stored: list[Lead] = []
    end = int(offsets[-1])
    for prefix in {id(s.prefix): s.prefix for s in sequences if s.prefix is not None}.values():
        rows = own.get(id(prefix.sequence))
        if rows is not None:
            computed.append((prefix, slice(int(rows[0]), int(rows[-1]) + 1)))
        else:
            rows = np.arange(end, end + len(prefix))
            stored.append(prefix)
            end += len(prefix)
        front[id(prefix)] = rows
    keys: list[Rows] = []
    for sequence in sequences:
        if sequence.prefix is not None:
            keys.append(front[id(sequence.prefix)])
        keys.append(own[id(sequence)])
    return Shared(tuple(computed), tuple(stored), torch.from_numpy(np.concatenate(keys)).to(device))
