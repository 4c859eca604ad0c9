"""Layers over packed tensors `[tokens, hidden]`, without padding."""
