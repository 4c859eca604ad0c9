"""A folder of models, polled for changes.

A poll compares the times and sizes of files. inotify(7) would miss changes made by another machine on a network file
system, or through some mounts of containers.
"""

import logging
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from sie_server.catalog.catalog import Entry, Profile, address, is_text
from sie_server.checkpoints.checkpoint import WEIGHTS
from sie_server.checkpoints.description import inspect
from sie_server.checkpoints.files import checkpoint_files, model_file
from sie_server.errors import LoadError, UnsupportedModelError

_LOG = logging.getLogger(__name__)
_SUFFIXES = (".safetensors", ".bin")
_FILES = (".yaml", ".yml", ".toml")

# For each file of a model: name, time of the last change, size, and inode.
Stamp = tuple[tuple[str, int, int, int], ...]


class Changes(NamedTuple):
    """The result of a poll.

    entries: of models that are new or have changed. gone: ids of models that were removed. faults: by id, why a model
    of `entries` can't be served.
    """

    entries: list[Entry]
    gone: list[str]
    faults: dict[str, LoadError]

    def slices(self, size: int) -> Iterator["Changes"]:
        """The same changes in slices of `size`, removed models first."""
        for i in range(0, len(self.gone), size):
            yield Changes([], self.gone[i : i + size], {})
        for i in range(0, len(self.entries), size):
            yield Changes(self.entries[i : i + size], [], self.faults)


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that names a model, by either `hf_id` or `weights_path`, which is relative to the file.

    profiles: as in the catalogue. prompt: as `--prompt`.
    """

    sie_id: str
    hf_id: str | None = None
    hf_revision: str | None = None
    weights_path: str | None = None
    max_sequence_length: int | None = None
    prompt: str | None = None
    profiles: dict[str, Profile] = {}

    def __post_init__(self) -> None:
        """Raises ValueError: it names no model, or two."""
        if (self.hf_id is None) == (self.weights_path is None):
            raise ValueError("exactly one of `hf_id` and `weights_path` is needed")

    def entry(self, folder: Path) -> Entry:
        """The model's entry. folder: of the file."""
        return Entry(
            id=self.sie_id,
            repository=self.hf_id or "",
            revision=self.hf_revision,
            folder=None if self.weights_path is None else (folder / self.weights_path).expanduser().resolve(),
            max_length=self.max_sequence_length,
            prompt=self.prompt,
            profiles=self.profiles,
        )


class ModelsFolder:
    """The models in `path`: sub-folders with a checkpoint, which have the folder's name, and files that name a model.

    reserved: ids of other models.
    """

    def __init__(self, path: Path, reserved: Collection[str]) -> None:
        """Raises ValueError: there is no such folder."""
        if not path.is_dir():
            raise ValueError(f"--models-dir {path}: no such folder")
        self._path = path.resolve()
        self._reserved = reserved
        self._last: dict[str, Stamp] | None = None
        self._served: dict[str, Stamp] = {}
        self._ids: dict[str, str] = {}
        # The fault last logged for a name.
        self._logged: dict[str, str] = {}

    def poll(self) -> Changes:
        """Changes since the last poll. Files still being written are ignored until they stop changing.

        The first poll takes everything as it is.

        Raises:
            OSError: the folder can't be read.
        """
        found = self._scan()
        last, self._last = found if self._last is None else self._last, found
        changes = Changes([], [], {})
        owners = {model_id: name for name, model_id in self._ids.items()}
        for name in sorted(found.keys() | self._served.keys()):
            now = found.get(name)
            if now == self._served.get(name) or now != last.get(name):
                continue
            if now is None:
                del self._served[name]
                if (model_id := self._ids.pop(name, None)) is not None:
                    del owners[model_id]
                    changes.gone.append(model_id)
                continue
            self._served[name] = now
            try:
                entry = self._entry(name, owners)
            except (ValueError, OSError) as error:  # the model served under this name stays
                _LOG.error("%s: %s", self._path / name, error)
                continue
            if (before := self._ids.get(name, entry.id)) != entry.id:
                changes.gone.append(before)
                del owners[before]
            self._ids[name] = entry.id
            owners[entry.id] = name
            entry, fault = inspect(entry)
            changes.entries.append(entry)
            if fault is not None:
                changes.faults[entry.id] = fault
        return changes

    def _entry(self, name: str, owners: Mapping[str, str]) -> Entry:
        """The model of a name in the folder. owners: model id → name in the folder."""
        path = self._path / name
        if path.is_dir():
            entry = Entry(id=name, folder=path.resolve())
        else:
            entry = msgspec.convert(model_file(path), ModelFile).entry(self._path)
            if not is_text(entry.id):
                raise ValueError(f"sie_id {entry.id!r} is not text")
        for profile in entry.every_profile:
            if (claimed := address(entry.id, profile)) in self._reserved or owners.get(claimed, name) != name:
                raise ValueError(f"the name {claimed!r} is taken by another model")
        return entry

    def _scan(self) -> dict[str, Stamp]:
        found: dict[str, Stamp] = {}
        with os.scandir(self._path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not is_text(entry.name):
                    self._log(entry.name, "its name is not UTF-8, so no client could ask for it; rename it")
                    continue
                stamp = None
                try:
                    stamp = self._stamp(entry)
                except OSError as error:  # unavailable for a moment, or not readable: the model stays as it was
                    self._log(entry.name, f"it can't be read: {error.strerror}")
                    stamp = (self._last or {}).get(entry.name)
                except UnsupportedModelError as error:
                    self._log(entry.name, str(error))
                else:
                    self._logged.pop(entry.name, None)
                if stamp is not None:
                    found[entry.name] = stamp
        return found

    def _stamp(self, entry: "os.DirEntry[str]") -> Stamp | None:
        """The stamp of a checkpoint, or of a file that names one; None for anything else.

        Raises:
            OSError: it can't be read.
            UnsupportedModelError: a pipe or a folder takes the place of one of its files.
        """
        path = Path(entry.path)
        try:
            status = entry.stat()
            if stat.S_ISDIR(status.st_mode):
                files = checkpoint_files(path)
                names = {name for name, _ in files}
                if "config.json" in names and any(name.endswith(_SUFFIXES) for name in names):
                    return tuple((name, found.st_mtime_ns, found.st_size, found.st_ino) for name, found in files)
                for name in ("config.json", WEIGHTS):
                    if (path / name).exists() and not (path / name).is_file():
                        raise UnsupportedModelError(f"{name} is not a regular file")
                return None
        except FileNotFoundError:  # just removed, or a dangling link
            return None
        if not entry.name.endswith(_FILES):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise UnsupportedModelError("it is not a regular file")
        return ((entry.name, status.st_mtime_ns, status.st_size, status.st_ino),)

    def _log(self, name: str, fault: str) -> None:
        """Log a fault, once until it changes."""
        if self._logged.get(name) != fault:
            self._logged[name] = fault
            _LOG.error("%s: %s", self._path / name, fault)
