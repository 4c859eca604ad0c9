"""Fixed dimensional encodings (Dhulipala et al. 2024, "MUVERA", arXiv 2405.19504): token vectors as one vector.

The inner product of a query's and a document's encoding approximates their MaxSim, so that an index of single vectors
can retrieve candidates for late interaction.
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
    """Draw normals of hyperplanes `[dim, repetitions * planes]` and signs of projections `[dim, repetitions * width]`.

    The same settings give the same numbers on every machine and in every release: NumPy guarantees the stream of its
    legacy `RandomState`.
    """
    random = np.random.RandomState(settings.seed)
    normals = random.standard_normal((dim, settings.num_repetitions * settings.num_simhash_projections))
    signs = random.randint(0, 2, (dim, settings.num_repetitions * settings.projection_dim), dtype=np.int64)
    return torch.from_numpy(normals).float(), torch.from_numpy(signs * 2 - 1).float()


def fixed_dimensional_encoding(
    vectors: Vectors, settings: Muvera, normals: Tensor, signs: Tensor, *, is_query: bool
) -> Vectors:
    """Encode the token vectors `[tokens, dim]` of a text as one vector `[settings.dims]`; both float32.

    Each repetition divides the space into partitions by random hyperplanes (SimHash). For each partition it holds a
    random projection of the sum of a query's tokens in it, or of the mean of a document's tokens. A partition without a
    token of the document gets the token whose code is nearest (the first of several). Repetitions are scaled so that
    the inner product does not grow with their number. It underestimates MaxSim: a mean is no nearer than the best
    token.
    """
    repetitions, planes, width = settings.num_repetitions, settings.num_simhash_projections, settings.projection_dim
    partitions = 2**planes
    # A copy in memory of torch's own, aligned the same for every sequence: equal bits need that.
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
    """Fixed dimensional encoding `[settings.dims]` of the token vectors that another head gives for each sequence."""

    def __init__(self, multivector: Head, settings: Muvera, *, is_query: bool) -> None:
        self.multivector = multivector
        self.settings = settings
        self.is_query = is_query
        self._drawn: tuple[Tensor, Tensor] | None = None

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[Vectors]:
        encodings = []
        for vectors in self.multivector(hidden, lengths, sequences):
            # Two threads may both draw; their numbers are the same.
            self._drawn = self._drawn or draw(self.settings, vectors.shape[1])
            encodings.append(fixed_dimensional_encoding(vectors, self.settings, *self._drawn, is_query=self.is_query))
        return encodings
