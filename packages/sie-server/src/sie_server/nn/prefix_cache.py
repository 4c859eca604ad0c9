"""Keys and values of prefixes: computed once per request, attended to by all of its documents."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sie_server.tokenization.sequence import KeysValues

if TYPE_CHECKING:
    from sie_server.nn.packed import Packed


class PrefixCache:
    """Keys and values of the prefixes of one batch, which must go through the layers in order."""

    def __init__(self, packed: "Packed") -> None:
        self._shared = packed.shared
        self._layers: list[list[KeysValues]] = [[] for _ in self._shared.computed] if self._shared else []
        self._depth = 0

    def extend(self, k: Tensor, v: Tensor) -> KeysValues:
        """Put the prefix's keys and values of the next layer in front of those of each sequence.

        Shapes: k, v `[tokens, kv_heads, head_dim]` → `[key_tokens, kv_heads, head_dim]`.
        """
        if (shared := self._shared) is None:
            return k, v
        for layers, (_, rows) in zip(self._layers, shared.computed, strict=True):
            layers.append((k[rows].clone(), v[rows].clone()))
        stored = [prefix.layers[self._depth] for prefix in shared.stored if prefix.layers is not None]
        self._depth += 1
        keys = torch.cat([k, *(key for key, _ in stored)])
        values = torch.cat([v, *(value for _, value in stored)])
        return keys[shared.key_rows], values[shared.key_rows]

    def publish(self) -> None:
        """Store the keys and values that this batch computed in their `Lead`s, for later batches."""
        if self._shared is not None:
            for layers, (prefix, _) in zip(self._layers, self._shared.computed, strict=True):
                prefix.layers = tuple(layers)
