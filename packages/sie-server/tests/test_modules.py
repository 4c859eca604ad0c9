"""Checkpoints as sentence-transformers saves them: built, saved and scored by it, then loaded by us."""

from pathlib import Path

import pytest
import torch
from checkpoints import build
from sentence_transformers import CrossEncoder
from torch import nn

from sie_server.models.catalog import Entry
from sie_server.models.load import inspect, load

CPU = torch.device("cpu")


@pytest.mark.parametrize(("activation", "score"), [(nn.Identity(), "logit"), (nn.Sigmoid(), "probability")])
def test_what_a_score_is_survives_saving(tmp_path: Path, activation: nn.Module, score: str) -> None:
    build(tmp_path / "transformers", "bert")
    reference = CrossEncoder(str(tmp_path / "transformers"), device="cpu", activation_fn=activation)
    reference.save_pretrained(str(tmp_path / "saved"))
    entry = Entry("m", folder=tmp_path / "saved")
    assert inspect(entry).score == score
    assert load(entry, CPU, "float32").score == score
