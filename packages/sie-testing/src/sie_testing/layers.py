"""Layers with weights, for the tests of the kernels."""

import pytest

from sie_server.nn.kernels.library import linear_isa_level
from sie_server.nn.linear import Linear

needs_int8 = pytest.mark.skipif(linear_isa_level() == 0, reason="neither AVX512-VNNI nor AVX-VNNI, or no kernels")


def filled(layer: Linear) -> Linear:
    """With random weights; what `Linear` itself leaves in them may be no numbers."""
    for parameter in layer.requires_grad_(False).parameters():
        parameter.normal_(std=0.05)
    return layer
