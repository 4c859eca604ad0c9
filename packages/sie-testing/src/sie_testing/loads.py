"""Loads of checkpoints on the CPU, and their refusals."""

from pathlib import Path

import pytest
import torch

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.errors import UnsupportedModelError

CPU = torch.device("cpu")


def refusal(folder: Path) -> str:
    """The error message of a load that is refused for good."""
    with pytest.raises(UnsupportedModelError) as caught:
        load(Entry("m", folder=folder), CPU, "float32")
    assert caught.value.permanent
    return str(caught.value)
