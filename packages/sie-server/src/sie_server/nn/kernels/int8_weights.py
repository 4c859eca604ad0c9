"""Weights of linear layers in int8: quantized per output channel, after their input channels are scaled to one size."""

from typing import NamedTuple

import torch
from torch import Tensor

# Bytes per weight, including the bfloat16 copy for outliers.
INT8_BYTES = 3
_LEVELS = 127  # on either side of zero
_TINY = torch.finfo(torch.float32).tiny


class Int8Weights(NamedTuple):
    """Quantized weights. A weight is its level times the scale of its output channel.

    Shapes: levels `[panels, columns, inputs]`, int8; scale and sums `[panels, columns]`, float32. sums: of the levels
    of an output channel, which are multiplied by the zero point of a row of activations.
    """

    levels: Tensor
    scale: Tensor
    sums: Tensor


def scale_input_channels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the input channels of a weight `[outputs, inputs]` to the same root mean square.

    Returns the scaled weight, and the scales, by which the activations have to be multiplied. Without this, the weights
    of small channels would be rounded to zero.
    """
    scale = weight.float().pow(2).mean(0).sqrt()
    return weight / scale.clamp_min(_TINY), scale


def quantize(weight: Tensor) -> Int8Weights:
    """Quantize each output channel of a weight `[panels, columns, inputs]` to 255 levels around zero."""
    scale = weight.abs().amax(2).div_(_LEVELS).clamp_min_(_TINY)
    levels = weight.div(scale[:, :, None]).round_().to(torch.int8)
    return Int8Weights(levels, scale, levels.sum(2).float())
