"""A cluster of Ray for all tests of this folder; they are skipped where Ray is not installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sie_testing.ray_cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> "Iterator[Cluster]":
    """A running cluster without an application."""
    from sie_testing.ray_cluster import cluster

    with cluster(cpus=4) as running:
        yield running


@pytest.fixture(scope="session")
def bert(models: Path) -> str:
    """The argument that serves a small checkpoint."""
    return f"bert={models / 'bert'}"
