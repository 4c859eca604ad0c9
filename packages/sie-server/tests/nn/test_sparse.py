"""Sparse vectors equal sentence-transformers' SPLADE, alone and batched."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import SpladePooling, Transformer

from sie_sdk import SIEClient
from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.errors import UnsupportedModelError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_server.nn.sparse import SparseVector
from sie_server.tokenization.sequence import Sequence
from sie_testing.checkpoints import build, text
from sie_testing.serving import connect, error, in_process

CPU = torch.device("cpu")
TEXTS = [text(length, seed) for seed, length in enumerate([0, 1, 3, 17, 17, 60, 300, 700])]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("splade")
    build(folder / "plain", "bert-sparse-encoder")
    transformer = Transformer(str(folder / "plain"), transformer_task="fill-mask", max_seq_length=512)
    reference = SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu")
    reference.save_pretrained(str(folder / "saved"))
    return folder / "saved", reference


def sparse(model: LoadedModel, sequences: list[Sequence]) -> list[SparseVector]:
    assert model.encoder.sparse is not None
    with torch.inference_mode():
        return model.encoder.sparse(*model.encoder(Packed.of(sequences, CPU)), sequences)


def test_weights_equal_sentence_transformers(saved: tuple[Path, Any]) -> None:
    folder, reference = saved
    model = load(Entry("m", folder=folder), CPU, "float32")
    assert (model.entry.outputs, model.entry.sparse_dims, model.modes) == (("sparse", "score"), 600, ("sparse",))
    sequences = model.tokenizer.encode_documents(TEXTS)
    for one, (indices, weights) in zip(TEXTS, sparse(model, sequences), strict=True):
        expected = reference.encode(one, convert_to_sparse_tensor=False).numpy()
        assert indices.dtype == np.int32
        assert 0 < len(indices) < 600, "a vector with all weights or none proves little"
        found = np.zeros(600, np.float32)
        found[indices] = weights
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_do_not_depend_on_the_batch(saved: tuple[Path, Any], precision: Any) -> None:
    torch.set_num_threads(1)
    model = load(Entry("m", folder=saved[0]), CPU, precision)
    sequences = model.tokenizer.encode_documents(TEXTS)
    for sequence, together in zip(sequences, sparse(model, sequences), strict=True):
        [alone] = sparse(model, [sequence])
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_another_pooling_is_refused(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(saved[0], folder)
    config = folder / "1_SpladePooling" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "activation_function": "log1p_relu"}))
    with pytest.raises(UnsupportedModelError, match="activation_function 'log1p_relu'"):
        load(Entry("m", folder=folder), CPU)


@pytest.fixture(scope="module")
def api(saved: tuple[Path, Any]) -> Iterator[httpx2.Client]:
    with in_process(model=(f"splade={saved[0]}",), precision="float32") as server, connect(server.url) as client:
        yield client


def encode(api: httpx2.Client, **params: Any) -> httpx2.Response:
    return api.post("/v1/encode/splade", json={"items": [{"text": TEXTS[5]}], "params": params})


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_sparse_over_http(api: httpx2.Client, saved: tuple[Path, Any], dtype: str) -> None:
    """Only float16 changes the weights; smaller types do not apply to them."""
    expected = saved[1].encode(TEXTS[5], convert_to_sparse_tensor=False).numpy()
    answer = encode(api, output_types=["sparse"], output_dtype=dtype).json()["items"][0]["sparse"]
    assert (answer["dims"], answer["dtype"]) == (600, "float16" if dtype == "float16" else "float32")
    assert answer["indices"] == expected.nonzero()[0].tolist()
    tolerance = 1e-3 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(answer["values"], expected[answer["indices"]], rtol=tolerance, atol=1e-5)
    facts = api.get("/v1/models/splade").json()
    assert (facts["outputs"], facts["dims"]) == (["sparse", "score"], {"sparse": 600})


def test_sparse_through_the_sdk(api: httpx2.Client) -> None:
    with SIEClient(str(api.base_url)) as client:
        result = client.encode("splade", {"text": TEXTS[5]}, output_types=["sparse"])
    over_json = encode(api, output_types=["sparse"]).json()["items"][0]["sparse"]
    assert result["sparse"]["indices"].dtype == np.int32
    assert result["sparse"]["indices"].tolist() == over_json["indices"]
    np.testing.assert_array_equal(result["sparse"]["values"], np.float32(over_json["values"]))


def test_dense_of_a_sparse_model_is_refused(api: httpx2.Client) -> None:
    answer = encode(api)
    assert error(answer)[:2] == (400, "INVALID_INPUT")
    assert error(answer)[2] == "Model 'splade' does not support output types: {'dense'}. Supported: {'sparse'}"
