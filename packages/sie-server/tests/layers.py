"""Layers with weights, for the tests of the kernels."""

from sie_server.nn.linear import Linear


def filled(layer: Linear) -> Linear:
    """With random weights; what `Linear` itself leaves in them may be no numbers."""
    for parameter in layer.requires_grad_(False).parameters():
        parameter.normal_(std=0.05)
    return layer
