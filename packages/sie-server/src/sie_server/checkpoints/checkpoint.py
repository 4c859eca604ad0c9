"""A checkpoint's folder, each of whose files is opened and parsed once."""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sie_server.checkpoints.files import open_file, read_file, read_json, read_json_list, version
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError

if TYPE_CHECKING:  # imports torch, which a command that only lists models does not wait for
    from sie_server.checkpoints.tensor_file import TensorFile

T = TypeVar("T")

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLED = "pytorch_model.bin"
_SHARD = re.compile(r"[\w.+-]+\.safetensors")


class Checkpoint:
    """The files of a folder, each read at most once; `unchanged` tells whether they are still those that were read.

    Values of JSON files are shared by all who ask for them, and must not be changed. Files of tensors stay open until
    the checkpoint is closed (it is a context manager) or garbage.

    folder: may be missing. version: of its files at the moment this object was made; None if it was missing. pickled:
    whether pickled tensors are read if there are no safetensors.
    """

    def __init__(self, folder: Path, pickled: bool = False) -> None:
        """Raises LoadError: STORAGE, the folder is there and can't be read."""
        self._parsed: dict[str, Any] = {}
        self._tensor_files: dict[str, TensorFile] = {}
        # Opened to be read as a whole before anything is known of their tensors.
        self._opened: dict[str, int] = {}
        self.folder = folder
        self._pickled = pickled
        self.version = version(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the files of tensors; what was parsed stays."""
        while self._tensor_files:
            self._tensor_files.popitem()[1].close()
        while self._opened:
            os.close(self._opened.popitem()[1])

    def unchanged(self) -> bool:
        """Whether the folder is there and its files are those of the moment this object was made."""
        try:
            return self.version is not None and version(self.folder) == self.version
        except LoadError:
            return False

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, relative to the folder.

        Raises:
            UnsupportedModelError: something else has the name: a pipe, say, or a folder.
            LoadError: STORAGE, the file system reports an error.
        """
        path = self.folder / name
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise LoadError(LoadClass.STORAGE, f"{path} can't be read: {error.strerror}") from error
        if not stat.S_ISREG(mode):
            raise UnsupportedModelError(f"{path} is not a regular file")
        return True

    def json(self, name: str) -> Mapping[str, Any]:
        """The object in a JSON file. Raises as `read_json`."""
        return self._once(name, read_json)

    def optional_json(self, name: str) -> Mapping[str, Any]:
        """The object in a JSON file, empty if there is no such file. Raises as `has` and `read_json`."""
        return self.json(name) if self.has(name) else {}

    def json_list(self, name: str) -> list[Any]:
        """The list in a JSON file. Raises as `read_json`."""
        return self._once(name, read_json_list)

    def text(self, name: str) -> str:
        """The text of a file.

        Raises:
            LoadError: as `read_file`.
            UnsupportedModelError: as `read_file`; it is not UTF-8.
        """
        return self._once(name, _text)

    def _once(self, name: str, read: Callable[[Path], T]) -> T:
        if name not in self._parsed:
            self._parsed[name] = read(self.folder / name)
        value: T = self._parsed[name]
        return value

    @cached_property
    def weight_map(self) -> Mapping[str, str]:
        """The file of each tensor, by the index of a checkpoint in several files; empty without an index.

        Raises:
            UnsupportedModelError: it can't be understood, or names a file outside the folder.
            LoadError: STORAGE, it can't be read just now.
        """
        if self.has(WEIGHTS) or not self.has(INDEX):
            return {}
        files = self.json(INDEX).get("weight_map")
        if not isinstance(files, dict) or not files:
            raise UnsupportedModelError(f"{self.folder / INDEX} has no 'weight_map' from tensors to files")
        for file in files.values():
            if not isinstance(file, str) or not _SHARD.fullmatch(file):
                raise UnsupportedModelError(f"{self.folder / INDEX}: {file!r} is not the name of a safetensors file")
        return files

    @cached_property
    def weight_files(self) -> list[str]:
        """Names of the files with the model's weights: one, or those that the index names, whether present or not.

        Without safetensors, the file of pickled tensors, if these may be read. Raises as `weight_map`.
        """
        if self.has(WEIGHTS):
            return [WEIGHTS]
        if self.weight_map:
            return sorted(set(self.weight_map.values()))
        return [_PICKLED] if self._pickled and self.has(_PICKLED) else []

    def tensors(self, name: str) -> "TensorFile":
        """An open file of tensors, with its header.

        Raises:
            LoadError: as `TensorFile`.
        """
        from sie_server.checkpoints.tensor_file import open_tensors

        if name not in self._tensor_files:
            self._tensor_files[name] = open_tensors(self.folder / name, self._opened.pop(name, None))
        return self._tensor_files[name]

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file in hexadecimal; the file stays open for `tensors`.

        Raises:
            LoadError: as `open_file`.
        """
        if name not in self._opened:
            self._opened[name] = open_file(self.folder / name)
        with open(self._opened[name], "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _text(path: Path) -> str:
    try:
        return read_file(path).decode()
    except UnicodeDecodeError as error:
        raise UnsupportedModelError(f"{path} is not UTF-8: {error}") from None
