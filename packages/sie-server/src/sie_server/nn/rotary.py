"""Rotary position embeddings (Su et al. 2021)."""

import torch
from torch import Tensor

from sie_server.nn.rows import rows_kernel


class Rotary:
    """Cosines and sines of every position, computed once per base, scale and device.

    From a table and not per batch, so that a position has the same bits in every batch.
    """

    def __init__(self, head_dim: int, positions: int) -> None:
        self._head_dim = head_dim
        self._positions = positions
        self._tables: dict[tuple[float, float, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, positions: Tensor, theta: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Of angles `position / (scale · theta^(2i / head_dim))`.

        Shapes: positions `[tokens]` → cos, sin float32 `[tokens, 1, head_dim]`.
        """
        key = theta, scale, positions.device
        if key not in self._tables:
            self._tables[key] = self._table(*key)
        cos, sin = self._tables[key]
        return cos[positions], sin[positions]

    def _table(self, theta: float, scale: float, device: torch.device) -> tuple[Tensor, Tensor]:
        exponents = torch.arange(0, self._head_dim, 2, dtype=torch.float, device=device) / self._head_dim
        angles = torch.arange(self._positions, device=device)[:, None] * (1.0 / theta**exponents / scale)
        angles = torch.cat((angles, angles), dim=-1)[:, None]  # [positions, 1, head_dim]
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + head_dim / 2) of `x` `[tokens, heads, head_dim]` by its position's angle.

    float32; bfloat16 where x is and the CPU's kernel for attention would round to it.
    """
    kernel = rows_kernel(x)
    if kernel is not None:
        return kernel.rotate(x, cos, sin)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
