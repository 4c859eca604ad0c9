"""Rotary position embeddings (Su et al. 2021)."""

import torch
from torch import Tensor

from sie_server.nn.kernels.rows import rows_kernel
from sie_server.nn.packed import Packed

# Positions that are computed together.
_BLOCK = 512


class Rotary:
    """Cosines and sines of the positions that have been asked for, computed once per base, scale and device.

    From a table and not per batch, so that a position has the same bits in every batch; the table is made of blocks of
    one size, so that it has the same bits however far the table goes. It goes as far as the longest sequence yet.
    """

    def __init__(self, head_dim: int) -> None:
        self._head_dim = head_dim
        self._tables: dict[tuple[float, float, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, packed: Packed, theta: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Of angles `position / (scale · theta^(2i / head_dim))`.

        Shapes: cos, sin float32 `[tokens, 1, head_dim]`.
        """
        key = theta, scale, packed.positions.device
        table = self._tables.get(key)
        if table is None or len(table[0]) < packed.most_positions:
            # Two threads may both do it, and find the same.
            self._tables[key] = table = self._table(packed.most_positions, *key)
        cos, sin = table
        return cos[packed.positions], sin[packed.positions]

    @property
    def bytes(self) -> int:
        """What the tables take by now."""
        return sum(part.numel() * part.element_size() for table in self._tables.values() for part in table)

    def _table(self, positions: int, theta: float, scale: float, device: torch.device) -> tuple[Tensor, Tensor]:
        exponents = torch.arange(0, self._head_dim, 2, dtype=torch.float, device=device) / self._head_dim
        frequencies = 1.0 / theta**exponents / scale
        blocks = 1 << (-(-positions // _BLOCK) - 1).bit_length()  # twice as many each time, so that it is seldom
        cos = torch.empty(blocks * _BLOCK, 1, self._head_dim, device=device)
        sin = torch.empty_like(cos)
        for first in range(0, len(cos), _BLOCK):
            angles = torch.arange(first, first + _BLOCK, device=device)[:, None] * frequencies
            angles = torch.cat((angles, angles), dim=-1)[:, None]  # [_BLOCK, 1, head_dim]
            torch.cos(angles, out=cos[first : first + _BLOCK])
            torch.sin(angles, out=sin[first : first + _BLOCK])
        return cos, sin


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + head_dim / 2) of `x` `[tokens, heads, head_dim]` by its position's angle.

    float32; bfloat16 where x is and the CPU's kernel for attention would round to it.
    """
    kernel = rows_kernel(x)
    if kernel is not None:
        return kernel.rotate(x, cos, sin)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
