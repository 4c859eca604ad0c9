"""The order of documents by their scores."""

from collections.abc import Sequence

import numpy as np


def order(ids: Sequence[str], scores: Sequence[float]) -> list[int]:
    """Places of the documents, the best first, in the order of trec_eval: by descending score, and then descending id.

    trec_eval keeps scores in float32, and so are they compared here.
    """
    single = np.asarray(scores, np.float32).tolist()
    return sorted(range(len(ids)), key=lambda at: (single[at], ids[at]), reverse=True)
