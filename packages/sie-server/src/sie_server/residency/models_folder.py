"""A folder of models: which there are, and what has changed in it since the last look.

Looking is asking for the times and sizes of files. The kernel could tell of changes (inotify(7)), but not of those that
another machine makes on a network file system, or that come through some of the mounts of containers.
"""

import logging
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from sie_server.catalog.catalog import Entry, Profile, address, is_text
from sie_server.checkpoints.files import checkpoint_files, model_file
from sie_server.checkpoints.load import inspect
from sie_server.errors import LoadError

_LOG = logging.getLogger(__name__)
_WEIGHTS = (".safetensors", ".bin")
_FILES = (".yaml", ".yml", ".toml")

# Of each file its name, when it was last written, its size and its number on the disk.
Print = tuple[tuple[str, int, int, int], ...]


class Changes(NamedTuple):
    """entries: of models that are new, or whose files have changed. gone: ids of models that are no more.

    faults: what is wrong with those of them that can't be served as they are, by id.
    """

    entries: list[Entry]
    gone: list[str]
    faults: dict[str, LoadError]

    def slices(self, size: int) -> Iterator["Changes"]:
        """The same changes, `size` at once; those that are gone come first."""
        for i in range(0, len(self.gone), size):
            yield Changes([], self.gone[i : i + size], {})
        for i in range(0, len(self.entries), size):
            yield Changes(self.entries[i : i + size], [], self.faults)


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that names a model: one of `hf_id` and `weights_path`, which is relative to the file.

    profiles: as in the catalogue, options of a request by name. prompt: how a decoder reads a pair, as `--prompt` says.
    """

    sie_id: str
    hf_id: str | None = None
    hf_revision: str | None = None
    weights_path: str | None = None
    max_sequence_length: int | None = None
    prompt: str | None = None
    profiles: dict[str, Profile] = {}

    def __post_init__(self) -> None:
        """Raises ValueError where it names no model, or two."""
        if (self.hf_id is None) == (self.weights_path is None):
            raise ValueError("exactly one of `hf_id` and `weights_path` is needed")

    def entry(self, folder: Path) -> Entry:
        """What it stands for, in `folder`."""
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
    """The models in `path`: sub-folders with a checkpoint, under their own names, and files that name one.

    reserved: ids that other models have.
    """

    def __init__(self, path: Path, reserved: Collection[str]) -> None:
        """Raises ValueError where there is no such folder."""
        if not path.is_dir():
            raise ValueError(f"--models-dir {path}: no such folder")
        self._path = path.resolve()
        self._reserved = reserved
        self._seen: dict[str, Print] | None = None
        self._taken: dict[str, Print] = {}
        self._ids: dict[str, str] = {}
        # What was last said of a name.
        self._said: dict[str, str] = {}

    def look(self) -> Changes:
        """What is different since the last look, of that which has not changed in between: who copies needs a while.

        The first look takes everything as it is.

        Raises:
            OSError: the folder can't be read.
        """
        found = self._scan()
        seen, self._seen = found if self._seen is None else self._seen, found
        changes = Changes([], [], {})
        owners = {model_id: name for name, model_id in self._ids.items()}
        for name in sorted(found.keys() | self._taken.keys()):
            now = found.get(name)
            if now == self._taken.get(name) or now != seen.get(name):
                continue
            if now is None:
                del self._taken[name]
                if (model_id := self._ids.pop(name, None)) is not None:
                    del owners[model_id]
                    changes.gone.append(model_id)
                continue
            self._taken[name] = now
            try:
                entry = self._entry(name, owners)
            except (ValueError, OSError) as error:  # a model that it was until now stays what it was
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
        """The model of a name in the folder. owners: by the ids of models, the names they have there."""
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

    def _scan(self) -> dict[str, Print]:
        found: dict[str, Print] = {}
        with os.scandir(self._path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not is_text(entry.name):
                    self._say(entry.name, "its name is not UTF-8, so that no client could ask for it; rename it")
                    continue
                try:
                    prints = self._print(entry)
                except OSError as error:  # away for a moment, or not for us to read: what it was it stays
                    self._say(entry.name, f"it can't be read: {error.strerror}")
                    prints = (self._seen or {}).get(entry.name)
                else:
                    self._said.pop(entry.name, None)
                if prints is not None:
                    found[entry.name] = prints
        return found

    def _print(self, entry: "os.DirEntry[str]") -> Print | None:
        """Of a checkpoint, or of a file that names one; None for whatever else there is."""
        path = Path(entry.path)
        try:
            status = entry.stat()
            if stat.S_ISDIR(status.st_mode):
                files = checkpoint_files(path)
                names = {name for name, _ in files}
                if "config.json" not in names or not any(name.endswith(_WEIGHTS) for name in names):
                    return None
                return tuple((name, found.st_mtime_ns, found.st_size, found.st_ino) for name, found in files)
        except FileNotFoundError:  # it has just gone, or its link leads nowhere yet
            return None
        if entry.name.endswith(_FILES) and stat.S_ISREG(status.st_mode):
            return ((entry.name, status.st_mtime_ns, status.st_size, status.st_ino),)
        return None

    def _say(self, name: str, what: str) -> None:
        """Once, and not with each look."""
        if self._said.get(name) != what:
            self._said[name] = what
            _LOG.error("%s: %s", self._path / name, what)
