"""Normalization layers, computed in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.nn.kernels.norm_rotary import norm_rotary_kernels


class LayerNorm(nn.Module):
    """LayerNorm (Ba et al. 2016).

    Shapes: x `[tokens, hidden]` → the shape of x, float32.
    """

    def __init__(self, hidden: int, eps: float, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden))
        self.bias = nn.Parameter(torch.empty(hidden)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        kernel = norm_rotary_kernels(x)
        if kernel is not None:
            return kernel.norm(x, self.weight, self.bias, self.eps, rms=False)
        return F.layer_norm(x.float(), x.shape[-1:], self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """RMSNorm (Zhang and Sennrich 2019, eq. 4): x / √(mean(x²) + eps) · (weight + offset).

    offset: added to the weight; Gemma stores weights as differences from 1.
    Shapes: x `[..., hidden]` → the shape of x, float32.
    """

    def __init__(self, hidden: int, eps: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden))
        self.eps = eps
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight + self.offset if self.offset else self.weight
        kernel = norm_rotary_kernels(x)
        if kernel is not None:
            return kernel.norm(x, weight, None, self.eps, rms=True)
        return F.rms_norm(x.float(), x.shape[-1:], weight, self.eps)
