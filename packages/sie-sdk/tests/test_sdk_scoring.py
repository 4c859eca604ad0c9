"""MaxSim against the formula as a plain loop."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sie_sdk import scoring
from sie_sdk.scoring import maxsim, maxsim_batch

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def loop(query, document):
    return sum(max(float(np.dot(q, d)) for d in document) for q in query)


def vectors(seed, lengths, width, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, width)).astype(dtype) for length in lengths]


@given(st.integers(0, 2**32), lengths, lengths, st.integers(1, 5), st.integers(1, 40), st.integers(1, 12))
def test_batch_is_the_formula_in_chunks_of_any_size(seed, query_lengths, lengths, width, elements, tokens):
    queries, documents = vectors(seed, query_lengths, width), vectors(seed + 1, lengths, width)
    expected = [[loop(query, document) for document in documents] for query in queries]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_CHUNK_ELEMENTS", elements)
        patch.setattr(scoring, "_CHUNK_QUERY_TOKENS", tokens)
        scores = maxsim_batch(queries, documents)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@given(st.integers(0, 2**32), lengths)
def test_maxsim_is_the_formula(seed, lengths):
    query, *documents = vectors(seed, [4, *lengths], 8)
    scores = maxsim(query, documents)
    assert all(type(score) is float for score in scores)
    np.testing.assert_allclose(scores, [loop(query, document) for document in documents], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])  # by a product each, and by one of a copy
@pytest.mark.parametrize("lengths", [[200, 64, 8], [1, 333, 80, 71], [127]])
def test_many_query_tokens_at_once_have_the_scores_of_each_query(lengths, dtype):
    queries, documents = vectors(0, [32, 96, 40], 16, dtype), vectors(1, lengths, 16, dtype)
    scores = maxsim_batch(queries, documents)
    expected = [[loop(query.astype(float), document.astype(float)) for document in documents] for query in queries]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [64, 63])
def test_many_query_tokens_at_once_and_a_3d_array(length):
    queries, documents = vectors(0, [200], 16, np.float32), np.stack(vectors(1, [length] * 3, 16, np.float32))
    assert maxsim(queries[0], documents) == pytest.approx([loop(queries[0], document) for document in documents], 1e-5)


def test_memory_is_bounded():
    query, documents = np.ones((64, 4), np.float32), [np.ones((50, 4), np.float32)] * 4000
    tracemalloc.start()
    try:
        maxsim(query, documents)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All similarities at once would be 51 MB.
    assert peak < 12e6


def test_reference_values():
    assert maxsim(np.eye(2), [np.array([[1, 0], [0.5, 0.5]]), np.array([[0, 1]])]) == [1.5, 1.0]


def test_negative_similarities_are_kept():
    assert maxsim(np.array([[1.0]]), [np.array([[-3.0], [-2.0]])]) == [-2.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8])
def test_products_are_float32(dtype):
    query, document = np.full((1, 4), 120, dtype), np.full((2, 4), 120, dtype)
    assert maxsim(query, [document]) == [57600.0]


def test_every_float16_is_cast_exactly():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = halves[np.isfinite(halves)]
    expected = values.astype(np.float32)
    np.testing.assert_array_equal(maxsim(np.eye(1), values[:, None, None]), expected)
    np.testing.assert_array_equal(maxsim(np.eye(1), list(values[:, None, None])), expected)
    np.testing.assert_array_equal(scoring._float32(halves), halves.astype(np.float32))


def test_float32_in_three_dimensions_is_not_copied():
    documents = np.ones((4, 3, 2), np.float32)
    rows, _ = scoring._packed(documents[1:3])
    assert np.shares_memory(rows, documents)


def test_two_dimensions_are_one_document():
    assert maxsim(np.eye(2), np.array([[1, 0], [0.5, 0.5]])) == [1.5]


def test_three_dimensions_are_a_list():
    documents = np.array([[[1, 0], [0, 1]], [[1, 0], [0, 0]]])
    assert maxsim(np.eye(2), documents) == [2.0, 1.0]
    np.testing.assert_array_equal(maxsim_batch(documents, documents), [[2.0, 1.0], [1.0, 1.0]])


def test_nothing_to_score():
    assert maxsim(np.eye(2), []) == []
    assert maxsim_batch([np.eye(2)], []).shape == (1, 0)
    assert maxsim_batch([], [np.eye(2)]).shape == (0, 1)


@pytest.mark.parametrize(
    ("query", "documents", "message"),
    [
        (np.ones(2), [np.eye(2)], r"query must be a 2-D array \[tokens, dim\], got shape \(2,\)"),
        (np.ones((0, 2)), [np.eye(2)], "query has no tokens"),
        (np.ones((0, 2)), [], "query has no tokens"),
        (np.eye(2), [np.eye(2), np.ones(2)], r"documents\[1\] must be a 2-D array"),
        (np.eye(2), [np.eye(2), np.eye(2), np.ones((0, 2))], r"documents\[2\] has no tokens"),
        (np.eye(2), [np.eye(3)], r"documents\[0\] has vectors of 3 dimensions, but the query's have 2"),
        (np.ones((2, 0)), [np.ones((2, 0))], "query has vectors without dimensions"),
        ([], [np.eye(2)], r"query must be a 2-D array \[tokens, dim\], got shape \(0,\)"),
        (np.eye(2), [[]], r"documents\[0\] must be a 2-D array"),
        (np.eye(2), np.ones(2), r"documents must be a list of 2-D arrays"),
        (np.eye(2), np.ones((1, 1, 1, 2)), r"documents must be a list of 2-D arrays"),
        (np.eye(2), np.ones((3, 0, 2)), r"documents\[0\] has no tokens"),
    ],
)
def test_arrays_that_can_not_be_scored(query, documents, message):
    with pytest.raises(ValueError, match=message):
        maxsim(query, documents)


def test_batch_names_the_query():
    with pytest.raises(ValueError, match=r"queries\[1\] has vectors of 3 dimensions"):
        maxsim_batch([np.eye(2), np.eye(3)], [np.eye(2)])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_without_a_score_are_named(bad, dtype):
    query, *documents = vectors(0, [3, 5, 1, 4], 6, dtype)
    spoilt = [array.copy() for array in documents]
    spoilt[1][0, 2] = bad
    with pytest.raises(ValueError, match=r"^documents\[1\] holds values that are infinite or not a number"):
        maxsim(query, spoilt)
    with pytest.raises(ValueError, match=r"^documents\[1\] holds values"):
        maxsim_batch([query, query], spoilt)
    query[2] = bad
    with pytest.raises(ValueError, match=r"^query holds values"):
        maxsim(query, documents)
    with pytest.raises(ValueError, match=r"^queries\[1\] holds values"):
        maxsim_batch([documents[0], query], documents)


def test_values_too_large_for_float32():
    with pytest.raises(ValueError, match=r"^documents\[0\] holds values that are infinite or not a number in float32"):
        maxsim(np.eye(2), [np.full((1, 2), 1e300)])
    with pytest.raises(ValueError, match=r"^the products of query and documents\[1\] are too large for float32"):
        maxsim(np.full((1, 2), 1e30), [np.eye(2), np.full((1, 2), 1e30)])
