"""The files of a checkpoint's folder: opened without waiting for anybody, read within a limit, told from later ones."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import yaml  # type: ignore[import-untyped]

from sie_server.errors import LoadClass, LoadError, UnsupportedModelError

# What a load may read. Whatever else lies in the folder can change without the model becoming another.
_SUFFIXES = (".json", ".safetensors", ".txt", ".bin", ".pt", ".metadata", ".jinja")
_MOST_BYTES = 16 * 2**20
_MOST_MODEL_FILE_BYTES = 2**20
_MAX_DEPTH = 32

# Of each file its name, device, number on the disk, size, and when its content and its properties last changed.
Version = tuple[tuple[str, int, int, int, int, int], ...]


def open_file(path: Path) -> int:
    """A descriptor to read a regular file by. A pipe, a device or a socket in its place is not opened.

    Raises:
        LoadError: STORAGE, the file can't be opened, or is not there.
        UnsupportedModelError: it is no regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnsupportedModelError(f"{path} is not a regular file")
        # Nobody waits for the other end of a pipe that has been put there meanwhile.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        # Not for ever: the folder may just be replaced, or its disk be away.
        raise LoadError(LoadClass.STORAGE, f"{path.name} is missing from {path.parent}") from None
    except OSError as error:
        raise LoadError(LoadClass.STORAGE, f"{path} can't be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsupportedModelError(f"{path} is not a regular file")
    return descriptor


def read_file(path: Path, most_bytes: int = _MOST_BYTES) -> bytes:
    """All of a file.

    Raises:
        LoadError: as `open_file`; STORAGE, it can't be read.
        UnsupportedModelError: as `open_file`; it is larger than `most_bytes`.
    """
    with os.fdopen(open_file(path), "rb") as file:
        try:
            content = file.read(most_bytes + 1)
        except OSError as error:
            raise LoadError(LoadClass.STORAGE, f"{path} can't be read: {error.strerror}") from error
    if len(content) > most_bytes:
        raise UnsupportedModelError(f"{path} has more than {most_bytes:,} bytes, the limit for such a file")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        LoadError: as `read_file`.
        UnsupportedModelError: as `read_file`; it holds something else.
    """
    value = _decoded(path)
    if not isinstance(value, dict):
        raise UnsupportedModelError(f"{path} is not a JSON object: it holds a {_kind(value)}")
    return value


def read_json_list(path: Path) -> list[Any]:
    """A JSON list from a file. Raises as `read_json`."""
    value = _decoded(path)
    if not isinstance(value, list):
        raise UnsupportedModelError(f"{path} is not a JSON list: it holds a {_kind(value)}")
    return value


def model_file(path: Path) -> Any:
    """What a `.toml` or `.yaml` file says.

    YAML's references and merge keys are refused: a few lines of them stand for gigabytes.

    Raises:
        ValueError: it can't be read, is too large, or says something that is none of these languages.
    """
    try:
        data = read_file(path, _MOST_MODEL_FILE_BYTES)
        if path.suffix == ".toml":
            return msgspec.toml.decode(data)
        depth = 0
        for event in yaml.parse(data, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"the reference *{event.anchor} is not supported; write out what it stands for")
            if depth > _MAX_DEPTH:
                raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
        return msgspec.yaml.decode(data)
    except (OSError, LoadError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(str(error)) from error


def version(folder: Path) -> Version:
    """What tells the files a load reads from those of any other moment.

    Raises:
        LoadError: STORAGE, the folder can't be read.
    """
    try:
        return tuple(
            (name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            for name, found in checkpoint_files(folder)
        )
    except OSError as error:
        raise LoadError(LoadClass.STORAGE, f"{folder} can't be read: {error.strerror}") from error


def checkpoint_files(folder: Path) -> list[tuple[str, os.stat_result]]:
    """The files a checkpoint may be read from, in order of their names: the folder's and its sub-folders' own.

    Links are followed. What is hidden, is no regular file or has just gone is left out.

    Raises:
        OSError: the folder can't be read.
    """
    found = []
    for entry in _entries(folder):
        if entry.name.endswith(_SUFFIXES):
            found.append((entry.name, entry))
        elif _is_folder(entry):
            with suppress(OSError):
                found += [(f"{entry.name}/{e.name}", e) for e in _entries(entry) if e.name.endswith(_SUFFIXES)]
    statuses = []
    for name, entry in found:
        with suppress(OSError):
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                statuses.append((name, status))
    return sorted(statuses)


def _entries(folder: "Path | os.DirEntry[str]") -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False


def _decoded(path: Path) -> Any:
    try:
        return msgspec.json.decode(read_file(path))
    except RecursionError:
        raise UnsupportedModelError(f"{path} is nested too deep") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise UnsupportedModelError(f"{path} is not JSON: {error}") from None


def _kind(value: Any) -> str:
    return {list: "list", str: "string", bool: "truth value", type(None): "null"}.get(type(value), type(value).__name__)
