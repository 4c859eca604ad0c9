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


def cached(folder: Path, cache: Path) -> Path:
    """Put a folder into a hub's cache as the main revision of owner/name; returns the cache."""
    repository = cache / "models--owner--name"
    for name in ("refs", "snapshots"):
        (repository / name).mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).symlink_to(folder)
    return cache
