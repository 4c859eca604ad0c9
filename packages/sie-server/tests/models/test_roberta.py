"""A text may hold the padding token: RoBERTa and its kin do not count it among their positions, and attend to it."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.nn.packed import Packed
from sie_testing.checkpoints import build
from sie_testing.loads import CPU

DOCUMENTS = ["w1 <pad> w2 w3", "w1 w2 w3", "<pad>", "<pad> <pad> w1", "w1 <pad>", "w4 w5 w6 w7 <pad> w8 <pad> w9"]


@pytest.mark.parametrize("name", ["xlm-roberta", "roberta", "camembert", "mpnet", "bert", "deberta"])
@torch.inference_mode()
def test_scores_equal_transformers_alone_and_batched(name: str, tmp_path: Path) -> None:
    reference = build(tmp_path, name)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = load(Entry(name, folder=tmp_path), CPU, "float32")
    documents = [document.replace("<pad>", tokenizer.pad_token) for document in DOCUMENTS]
    assert tokenizer.pad_token_id in tokenizer(documents[0])["input_ids"]

    def ours(documents: list[str]) -> list[float]:
        sequences = model.tokenizer.encode_pairs("w1 what", documents)
        assert model.encoder.head is not None
        return model.encoder.head(*model.encoder(Packed.of(sequences, CPU)), sequences)

    together = ours(documents)
    for document, score in zip(documents, together, strict=True):
        assert ours([document]) == [score]
        assert score == pytest.approx(
            reference(**tokenizer("w1 what", document, return_tensors="pt")).logits.item(), abs=2e-5
        )
