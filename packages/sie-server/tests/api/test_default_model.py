"""The model of a request that names none."""

import pytest

from sie_server.api.default_model import DefaultModel
from sie_server.catalog.catalog import Entry
from sie_server.errors import SIEError
from sie_server.residency.address import ModelNames
from sie_server.residency.slot import Slot
from sie_server.settings import Settings

ENTRIES = [
    Entry("cross", outputs=("score",), score="logit"),
    Entry("other", outputs=("score",), score="probability"),
    Entry("late", outputs=("multivector", "score"), score="maxsim"),
    Entry("embedder", outputs=("dense", "score"), score="similarity"),
    Entry("dense", outputs=("dense",)),
]
NAMES = ModelNames({entry.id: Slot(entry, entry) for entry in ENTRIES}, {})


@pytest.mark.parametrize(
    ("preload", "model"),
    [
        (("cross",), "cross"),
        (("embedder", "dense"), "embedder"),
        (("cross", "late", "embedder"), "cross"),
        (("cross", "other"), None),
        (("late", "embedder"), None),
        (("dense",), None),
    ],
)
def test_the_default_for_reranking(preload: tuple[str, ...], model: str | None) -> None:
    default = DefaultModel(NAMES, Settings(preload=preload))
    if model is None:
        with pytest.raises(SIEError, match="'model' is missing"):
            default.able("score")
    else:
        assert default.able("score") == model
