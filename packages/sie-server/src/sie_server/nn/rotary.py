"""Rotary position embeddings (Su et al. 2021)."""

import torch
from torch import Tensor

from sie_server.nn.kernels.norm_rotary import norm_rotary_kernels
from sie_server.nn.packed import Packed

# Positions computed together.
_BLOCK = 512


class Rotary:
    """Tables of cosines and sines by position, one per base, scale and device, grown to the longest sequence so far.

    Taken from a table rather than computed per batch, a position has the same bits in every batch. Tables consist of
    blocks of one size, so the bits do not depend on a table's length either.
    """

    def __init__(self, head_dim: int) -> None:
        self._head_dim = head_dim
        self._tables: dict[tuple[float, float, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, packed: Packed, theta: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the angles `position / (scale · theta^(2i / head_dim))` of all tokens.

        Shapes: cos, sin float32 `[tokens, 1, head_dim]`.
        """
        key = theta, scale, packed.positions.device
        table = self._tables.get(key)
        if table is None or len(table[0]) < packed.max_positions:
            # Two threads may compute it at the same time, with the same result.
            self._tables[key] = table = self._table(packed.max_positions, *key)
        cos, sin = table
        return cos[packed.positions], sin[packed.positions]

    @property
    def bytes(self) -> int:
        """Size of all tables in bytes."""
        return sum(part.numel() * part.element_size() for table in self._tables.values() for part in table)

    def _table(self, positions: int, theta: float, scale: float, device: torch.device) -> tuple[Tensor, Tensor]:
        exponents = torch.arange(0, self._head_dim, 2, dtype=torch.float, device=device) / self._head_dim
        frequencies = 1.0 / theta**exponents / scale
        blocks = 1 << (-(-positions // _BLOCK) - 1).bit_length()  # doubled each time, so that tables seldom grow
        cos = torch.empty(blocks * _BLOCK, 1, self._head_dim, device=device)
        sin = torch.empty_like(cos)
        for first in range(0, len(cos), _BLOCK):
            angles = torch.arange(first, first + _BLOCK, device=device)[:, None] * frequencies
            angles = torch.cat((angles, angles), dim=-1)[:, None]  # [_BLOCK, 1, head_dim]
            torch.cos(angles, out=cos[first : first + _BLOCK])
            torch.sin(angles, out=sin[first : first + _BLOCK])
        return cos, sin


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + head_dim / 2) of x by the angle of its token's position.

    Shapes: x `[tokens, heads, head_dim]` → the same, float32; or bfloat16 if x is and the attention kernel would round
    to it.
    """
    kernel = norm_rotary_kernels(x)
    if kernel is not None:
        return kernel.rotate(x, cos, sin)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
