"""Functions that read embeddings out of results."""

import numpy as np
import pytest

from sie_sdk import (
    SparseVector,
    dense_embedding,
    multivector_embedding,
    normalize_sparse_vector,
    sparse_embedding,
    sparse_embedding_dict,
)

SPARSE = {"indices": np.array([7, 2], np.int32), "values": np.array([3.0, 4.0], np.float16)}
RESULT = {"dense": np.ones(3, np.float16), "sparse": SPARSE, "multivector": np.ones((2, 3), np.int8)}


def test_dense():
    assert dense_embedding(RESULT) is RESULT["dense"]


def test_multivector():
    assert multivector_embedding(RESULT) is RESULT["multivector"]


def test_sparse():
    vector = sparse_embedding(RESULT)
    np.testing.assert_array_equal(vector.indices, np.array([7, 2], np.int32), strict=True)
    np.testing.assert_array_equal(vector.values, np.array([3, 4], np.float32), strict=True)
    assert sparse_embedding_dict(RESULT) == {7: 3.0, 2: 4.0}


@pytest.mark.parametrize("vector", [SPARSE, sparse_embedding(RESULT)])
def test_normalize(vector):
    indices, values = normalize_sparse_vector(vector)
    assert indices.tolist() == [7, 2]
    np.testing.assert_array_equal(values, np.array([0.6, 0.8], np.float32), strict=True)


@pytest.mark.parametrize("zeros", [[], [0.0, 0.0]])
def test_normalize_zeros(zeros):
    vector = SparseVector(np.arange(len(zeros), dtype=np.int32), np.array(zeros, np.float32))
    assert normalize_sparse_vector(vector).values.tolist() == zeros


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (dense_embedding, "dense"),
        (multivector_embedding, "multivector"),
        (sparse_embedding, "sparse"),
        (sparse_embedding_dict, "sparse"),
    ],
)
def test_embedding_that_was_not_asked_for(read, kind):
    others = {name: embedding for name, embedding in RESULT.items() if name != kind}
    with pytest.raises(ValueError, match=f"the result has no {kind} embedding, only {', '.join(others)}; request it"):
        read(others)
    with pytest.raises(ValueError, match=f"the result has no {kind} embedding; request it"):
        read({"model": "m"})
