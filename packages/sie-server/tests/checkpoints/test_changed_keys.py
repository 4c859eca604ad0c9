"""One key of a checkpoint's JSON files changed: it is served rightly, or refused with a sentence that names the place.

All of it is inspected; of what is not refused then a sample is loaded, scored, and compared with sentence-transformers.
`CHANGED_KEYS=all pytest packages/sie-server/tests/checkpoints/test_changed_keys.py` does so with all, in half an hour.
"""

import os
import random
from pathlib import Path

import pytest

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.description import inspect
from sie_server.errors import LoadError
from sie_testing.changed_keys import FOLDERS, Changed, changes, ours, reference, same

_SAMPLE = 12


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    FOLDERS[request.param](path)
    return path


def names(changed: Changed, error: LoadError) -> bool:
    """Whether a message leads to what was changed: its key, or the file."""
    message = str(error)
    return changed.key in message or changed.file in message or Path(changed.file).parent.name + "/" in message


def wrong(folder: Path, changed: Changed, unchanged: object) -> str | None:
    """What is wrong with how a changed folder is served, if something is."""
    try:
        got = ours(folder)
    except LoadError as error:
        return None if names(changed, error) or changed.file == "config.json" else f"{changed}: refused with {error}"
    expected = reference(folder, scores=got.ndim == 1)
    if expected is not None and not same(got, expected) and not same(expected, reference(folder, got.ndim == 1)):
        expected = None  # it gave a layer random weights
    if same(got, unchanged if expected is None else expected):  # type: ignore[arg-type]
        return None
    return f"{changed}: {got.tolist()}, the reference {None if expected is None else expected.tolist()}"


def test_a_changed_key_is_served_rightly_or_refused_by_name(folder: Path) -> None:
    unchanged = ours(folder)
    assert same(unchanged, reference(folder, scores=unchanged.ndim == 1))
    faults, accepted = [], []
    for changed in changes(folder):
        path = folder / changed.file
        content = path.read_bytes()
        path.write_text(changed.content)
        _, fault = inspect(Entry("m", folder=folder))
        if fault is None:
            accepted.append(changed)
        elif "can't be parsed" in str(fault) or not names(changed, fault):
            faults.append(f"{changed}: {fault}")
        path.write_bytes(content)
    assert not faults, "\n".join(faults)
    if os.environ.get("CHANGED_KEYS") != "all":
        accepted = random.Random(folder.name).sample(accepted, _SAMPLE)
    for changed in accepted:
        path = folder / changed.file
        content = path.read_bytes()
        path.write_text(changed.content)
        if (fault := wrong(folder, changed, unchanged)) is not None:
            faults.append(fault)
        path.write_bytes(content)
    assert not faults, "\n".join(faults)
