"""Fixed dimensional encodings: the paper's definition, and what it promises of inner products."""

from typing import Any

import httpx2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from sie_sdk.scoring import maxsim
from sie_server.nn.muvera import draw, fixed_dimensional_encoding
from sie_server.options import Muvera
from sie_testing.serving import EMBEDDED, error

DIM = 32


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def encoded(vectors: NDArray[np.float32], settings: Muvera, *, is_query: bool) -> NDArray[np.float32]:
    return fixed_dimensional_encoding(vectors, settings, *draw(settings, vectors.shape[1]), is_query=is_query)


def by_definition(vectors: NDArray[np.float32], settings: Muvera, *, is_query: bool) -> NDArray[np.float32]:
    """Section 2 of the paper, as loops."""
    k, width = settings.num_simhash_projections, settings.projection_dim
    normals, signs = (matrix.numpy() for matrix in draw(settings, vectors.shape[1]))
    parts = []
    for r in range(settings.num_repetitions):
        codes = [sum(int(v @ normals[:, r * k + i] > 0) << i for i in range(k)) for v in vectors]
        psi = signs[:, r * width : (r + 1) * width] / np.sqrt(width)
        for part in range(2**k):
            inside = [v for v, code in zip(vectors, codes, strict=True) if code == part]
            if is_query:
                value = sum(inside, np.zeros(vectors.shape[1]))
            else:
                nearest = min(range(len(codes)), key=lambda i: (codes[i] ^ part).bit_count())
                value = np.mean(inside, axis=0) if inside else vectors[nearest]
            parts.append(value @ psi)
    return np.concatenate(parts) / np.sqrt(settings.num_repetitions)


@pytest.mark.parametrize("tokens", [1, 2, 3, 17, 90])
@pytest.mark.parametrize("is_query", [True, False])
@pytest.mark.parametrize("settings", [Muvera(3, 4, 5, 7), Muvera(1, 1, 1, 0), Muvera(2, 6, 32, 2**32 - 1)])
def test_the_definition(tokens: int, is_query: bool, settings: Muvera) -> None:
    vectors = unit(np.random.default_rng(tokens).normal(size=(tokens, DIM)))
    got = encoded(vectors, settings, is_query=is_query)
    assert (got.shape, got.dtype) == ((settings.dims,), np.float32)
    np.testing.assert_allclose(got, by_definition(vectors, settings, is_query=is_query), rtol=0, atol=1e-5)
    assert np.array_equal(encoded(vectors, settings, is_query=is_query), got)
    if tokens > 2:  # some two share a partition, where their sum is not their mean
        assert not np.array_equal(encoded(vectors, settings, is_query=not is_query), got)


def test_the_draw_never_changes() -> None:
    """An index outlives a release: these are the values that stored vectors were made with."""
    normals, signs = draw(Muvera(), 384)
    assert (normals.shape, signs.shape) == ((384, 240), (384, 320))
    assert normals[0, :3].tolist() == pytest.approx([0.49671414, -0.13826430, 0.64768857], abs=1e-6)
    assert normals[-1, -3:].tolist() == pytest.approx([0.82749933, 1.21497548, -0.65141368], abs=1e-6)
    assert signs[0, :8].tolist() == [1, -1, 1, -1, 1, 1, -1, -1]


def test_inner_products_approximate_maxsim() -> None:
    random = np.random.default_rng(0)
    query = unit(random.normal(size=(12, DIM)))
    # The more of the query's tokens a document has, the better it matches.
    documents = [
        unit(np.concatenate([query[:shared] + 0.1 * random.normal(size=(shared, DIM)), random.normal(size=(20, DIM))]))
        for shared in range(13)
    ]
    exact = np.array(maxsim(query, documents))
    settings = Muvera(40, 6, 16)
    estimate = np.stack([encoded(d, settings, is_query=False) for d in documents]) @ encoded(
        query, settings, is_query=True
    )
    assert np.corrcoef(exact, estimate)[0, 1] > 0.95
    assert set(np.argsort(estimate)[-5:]) == set(np.argsort(exact)[-5:]) == {8, 9, 10, 11, 12}
    # An estimate from below, of MaxSim itself: a partition's mean is at most as near as its best token.
    assert np.all(estimate < exact)
    assert np.all(estimate[6:] > 0.3 * exact[6:])


# --- over HTTP -------------------------------------------------------------------------------------------------------


def encode(api: httpx2.Client, texts: list[str], muvera: dict[str, int], **params: Any) -> list[dict[str, Any]]:
    body = {"items": [{"text": text} for text in texts], "params": {**params, "options": {"muvera": muvera}}}
    answer = api.post(f"/v1/encode/{EMBEDDED}", json=body)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.mark.parametrize("is_query", [True, False])
def test_dense_is_the_encoding_of_the_multivector(api: httpx2.Client, is_query: bool) -> None:
    texts = ["python is a programming language", "snakes", ""]
    chosen = {"num_repetitions": 5, "num_simhash_projections": 3, "projection_dim": 4, "seed": 1}
    for muvera, settings in (({}, Muvera()), (chosen, msgspec.convert(chosen, Muvera))):
        for item in encode(api, texts, muvera, output_types=["multivector"], is_query=is_query):
            assert item.keys() == {"dense", "multivector"}
            vectors = np.array(item["multivector"]["values"], np.float32)
            assert item["dense"]["dims"] == settings.dims == len(item["dense"]["values"])
            expected = encoded(vectors, settings, is_query=is_query)
            assert item["dense"]["values"] == pytest.approx(expected.tolist(), abs=1e-6)


def test_an_encoding_does_not_depend_on_its_batch(api: httpx2.Client) -> None:
    texts = ["python", "snakes are reptiles", "it", "who made it", "a language " * 40]
    together = encode(api, texts, {})
    assert [item["dense"] for item in together] == [encode(api, [text], {})[0]["dense"] for text in texts]
    assert all(item.keys() == {"dense"} for item in together)
    assert Muvera().dims == together[0]["dense"]["dims"] == 20480


@pytest.mark.parametrize(
    ("muvera", "message"),
    [
        (1, "Expected `object | null`, got `int` - at `$.params.options.muvera`"),
        ({"num_repetitions": 0}, "Expected `int` >= 1 - at `$.params.options.muvera.num_repetitions`"),
        ({"seed": -1}, "Expected `int` >= 0 - at `$.params.options.muvera.seed`"),
        (
            {"num_simhash_projections": 8},
            "Field 'params.options.muvera' makes vectors of 81920 dimensions; the limit is 65536",
        ),
    ],
)
def test_invalid_settings(api: httpx2.Client, muvera: Any, message: str) -> None:
    body = {"items": [{"text": "a"}], "params": {"options": {"muvera": muvera}}}
    assert error(api.post(f"/v1/encode/{EMBEDDED}", json=body)) == (400, "INVALID_INPUT", message)


def test_a_model_without_token_vectors(api: httpx2.Client) -> None:
    body = {"items": [{"text": "a"}], "params": {"options": {"muvera": {}}}}
    message = "Model 'bert-encoder' does not support output types: {'multivector'}. Supported: {'dense'}"
    assert error(api.post("/v1/encode/bert-encoder", json=body)) == (400, "INVALID_INPUT", message)
