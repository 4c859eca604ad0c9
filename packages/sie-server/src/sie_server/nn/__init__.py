"""Layers over packed tensors: `[tokens, hidden]`, never `[batch, padded length, hidden]`."""
