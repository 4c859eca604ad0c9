"""An encoder in one call: the same bits as layer by layer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.models.bert import Bert
from sie_server.nn.kernels.library import computing, installed_library, linear_isa_level, use_cores
from sie_server.nn.packed import Packed
from sie_server.options import Precision
from sie_server.tokenization.sequence import Sequence
from sie_testing.checkpoints import build

pytestmark = pytest.mark.skipif(installed_library() is None, reason="the kernels are not installed")
LEAST: dict[Precision, int] = {"float32": 0, "bfloat16": 3, "int8": 1}  # of `linear_isa_level`
ONE_CALL = ["bert", "bert-encoder", "xlm-roberta", "electra-narrow", "distilbert"]
DEVICE = torch.device("cpu")


def encoder(folder: Path, name: str, precision: Precision) -> Bert:
    if linear_isa_level() < LEAST[precision]:
        pytest.skip("this processor has no such instructions")
    build(folder, name)
    made = load(Entry("m", folder=folder), DEVICE, precision).encoder
    assert isinstance(made, Bert)
    return made


def packed(*lengths: int, unattended: int = 0) -> Packed:
    rng = np.random.default_rng(0)
    sequences = [Sequence(rng.integers(10, 500, n, np.int32), np.zeros(n, np.int32)) for n in lengths]
    sequences[0].unattended = unattended
    return Packed.of(sequences, DEVICE)


@pytest.mark.parametrize("precision", LEAST)
@pytest.mark.parametrize("name", ONE_CALL)
@torch.inference_mode()
def test_the_bits_are_those_of_single_layers(tmp_path: Path, name: str, precision: Precision) -> None:
    model = encoder(tmp_path, name, precision)
    assert model.kernel is not None
    for batch in (packed(1), packed(1, 1, 1), packed(300, 7, 7, 150), packed(5, unattended=2)):
        expected = model.encode_by_layer(model.embeddings(batch), batch)
        for cores in (1, 3):
            use_cores(cores)
            with computing():
                assert torch.equal(model.encode(batch), expected)
    use_cores(1)


@torch.inference_mode()
def test_a_token_without_an_embedding_is_an_error(tmp_path: Path) -> None:
    model = encoder(tmp_path, "bert", "float32")
    for token in (-1, len(model.embeddings.word.weight)):
        with pytest.raises(IndexError, match="not in the table of embeddings"):
            model.encode(Packed.of([Sequence(np.array([1, token], np.int32), np.zeros(2, np.int32))], DEVICE))


@pytest.mark.parametrize("name", ["deberta", "mpnet", "gte"])
def test_biases_and_rotations_are_computed_layer_by_layer(tmp_path: Path, name: str) -> None:
    assert encoder(tmp_path, name, "float32").kernel is None
