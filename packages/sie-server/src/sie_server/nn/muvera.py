"""Fixed dimensional encodings (Dhulipala et al. 2024, "MUVERA", arXiv 2405.19504): token vectors as one vector.

The inner product of a query's encoding with a document's approximates their MaxSim, so that an index of single vectors
finds what late interaction would.
"""

from collections.abc import Sequence as Items

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sie_server.nn.heads import Head, StatelessHead, Vectors
from sie_server.options import Muvera
from sie_server.tokenization.sequence import Sequence

Codes = NDArray[np.int64]


def draw(settings: Muvera, dim: int) -> tuple[Tensor, Tensor]:
    """Normals of the hyperplanes `[dim, repetitions * planes]`, signs of the projections `[dim, repetitions * width]`.

    The same settings draw the same on every machine and in every release: legacy `RandomState` is the stream that NumPy
    promises to keep.
    """
    random = np.random.RandomState(settings.seed)
    normals = random.standard_normal((dim, settings.num_repetitions * settings.num_simhash_projections))
    signs = random.randint(0, 2, (dim, settings.num_repetitions * settings.projection_dim), dtype=np.int64)
    return torch.from_numpy(normals).float(), torch.from_numpy(signs * 2 - 1).float()


def fixed_dimensional_encoding(
    vectors: Vectors, settings: Muvera, normals: Tensor, signs: Tensor, *, is_query: bool
) -> Vectors:
    """One vector of `settings.dims` for the token vectors `[tokens, dim]` of a text; float32 both.

    Each repetition cuts the space by random hyperplanes into partitions (SimHash) and has, per partition, a random
    projection of the sum of a query's tokens there, or of the mean of a document's. A partition without a token of the
    document has its token whose code is nearest (the first of several). Repetitions are scaled so that the inner
    product does not grow with their number. It estimates MaxSim from below: a mean is no nearer than the best token.
    """
    repetitions, planes, width = settings.num_repetitions, settings.num_simhash_projections, settings.projection_dim
    partitions = 2**planes
    # torch's own memory is aligned the same way for every sequence, as equal bits need.
    tokens = torch.from_numpy(vectors).clone()
    above = (tokens @ normals).numpy().reshape(-1, repetitions, planes) > 0
    codes: Codes = above @ (1 << np.arange(planes))
    projected = (tokens @ signs).numpy().reshape(-1, repetitions, width) / np.float32(np.sqrt(width))

    encoding = np.zeros((repetitions, partitions, width), np.float32)
    np.add.at(encoding, (np.arange(repetitions), codes), projected)
    if not is_query:
        bits = np.bitwise_count(np.arange(partitions))
        for repetition in range(repetitions):
            own = codes[:, repetition]
            counts = np.bincount(own, minlength=partitions)
            encoding[repetition] /= np.maximum(counts, 1)[:, None]
            empty = np.flatnonzero(counts == 0)
            nearest = bits[empty[:, None] ^ own].argmin(axis=1)
            encoding[repetition, empty] = projected[nearest, repetition]
    encoding /= np.float32(np.sqrt(repetitions))
    return encoding.ravel()


class FixedDimensional(StatelessHead):
    """The fixed dimensional encoding of what a head for token vectors gives: `[settings.dims]` per sequence."""

    def __init__(self, multivector: Head, settings: Muvera, *, is_query: bool) -> None:
        self.multivector = multivector
        self.settings = settings
        self.is_query = is_query
        self._drawn: tuple[Tensor, Tensor] | None = None

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[Vectors]:
        encodings = []
        for vectors in self.multivector(hidden, lengths, sequences):
            # Two threads may both draw: what they draw is the same.
            self._drawn = self._drawn or draw(self.settings, vectors.shape[1])
            encodings.append(fixed_dimensional_encoding(vectors, self.settings, *self._drawn, is_query=self.is_query))
        return encodings
