"""Files of a checkpoint's folder: opened without waiting, read up to a limit, distinguished from later versions."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from sie_server.errors import LoadClass, LoadError, UnsupportedModelError

# Of the files that a load may read. All others can change without changing the model.
_SUFFIXES = (".json", ".safetensors", ".txt", ".bin", ".pt", ".metadata", ".jinja")
_MAX_BYTES = 16 * 2**20
_MAX_MODEL_FILE_BYTES = 2**20
_MAX_DEPTH = 32

# For each file: name, device, inode, size, and the times at which its content and its properties last changed.
Version = tuple[tuple[str, int, int, int, int, int], ...]


def open_file(path: Path) -> int:
    """Open a regular file for reading and return its descriptor. Pipes, devices and sockets are not opened.

    Raises:
        LoadError: STORAGE, the file is missing or can't be opened.
        UnsupportedModelError: it is not a regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnsupportedModelError(f"{path} is not a regular file")
        # O_NONBLOCK: a pipe may have taken its place since.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        # STORAGE is tried again: the folder may be about to be replaced, or its disk be unmounted.
        raise LoadError(LoadClass.STORAGE, f"{path.name} is missing from {path.parent}") from None
    except OSError as error:
        raise LoadError(LoadClass.STORAGE, f"{path} can't be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsupportedModelError(f"{path} is not a regular file")
    return descriptor


def read_file(path: Path, max_bytes: int = _MAX_BYTES) -> bytes:
    """The content of a file.

    Raises:
        LoadError: as `open_file`; STORAGE, it can't be read.
        UnsupportedModelError: as `open_file`; it is larger than `max_bytes`.
    """
    with os.fdopen(open_file(path), "rb") as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise LoadError(LoadClass.STORAGE, f"{path} can't be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise _too_large(path, max_bytes)
    return content


def check_file(path: Path, max_bytes: int = _MAX_BYTES) -> None:
    """Check a file that a library reads by itself.

    Raises:
        LoadError, UnsupportedModelError: as `read_file`.
    """
    descriptor = open_file(path)
    try:
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if size > max_bytes:
        raise _too_large(path, max_bytes)


def _too_large(path: Path, max_bytes: int) -> UnsupportedModelError:
    return UnsupportedModelError(f"{path} has more than {max_bytes:,} bytes, the limit for such a file")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        LoadError: as `read_file`.
        UnsupportedModelError: as `read_file`; the file is not JSON, or not an object.
    """
    value = _decoded(path)
    if not isinstance(value, dict):
        raise UnsupportedModelError(f"{path} is not a JSON object: it holds a {_kind(value)}")
    return value


def read_json_list(path: Path) -> list[Any]:
    """The JSON list in a file. Raises as `read_json`."""
    value = _decoded(path)
    if not isinstance(value, list):
        raise UnsupportedModelError(f"{path} is not a JSON list: it holds a {_kind(value)}")
    return value


def model_file(path: Path) -> Any:
    """The content of a `.toml` or `.yaml` file.

    YAML's references and merge keys are refused: a few lines of them can stand for gigabytes.

    Raises:
        ValueError: the file can't be read, is too large, or can't be parsed.
    """
    import yaml  # type: ignore[import-untyped]  # only servers with such a file wait for it

    try:
        data = read_file(path, _MAX_MODEL_FILE_BYTES)
        if path.suffix == ".toml":
            return msgspec.toml.decode(data)
        depth = 0
        for event in yaml.parse(data, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"the reference *{event.anchor} is not supported; write out its value")
            if depth > _MAX_DEPTH:
                raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
        return msgspec.yaml.decode(data)
    except (OSError, LoadError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(str(error)) from error


def version(folder: Path) -> Version | None:
    """Identifies the present files among those of all moments; None if there is no such folder.

    Raises:
        LoadError: STORAGE, the folder can't be read.
    """
    try:
        return tuple(
            (name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            for name, found in checkpoint_files(folder)
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LoadError(LoadClass.STORAGE, f"{folder} can't be read: {error.strerror}") from error


def checkpoint_files(folder: Path) -> list[tuple[str, os.stat_result]]:
    """The files of a folder and its sub-folders that belong to a checkpoint, sorted by name.

    Links are followed. Hidden files, and all that are not regular files, are left out.

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
    except OSError:  # a circular link
        return False


def _decoded(path: Path) -> Any:
    try:
        return msgspec.json.decode(read_file(path))
    except RecursionError:
        raise UnsupportedModelError(f"{path} is nested too deeply") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise UnsupportedModelError(f"{path} is not JSON: {error}") from None


def _kind(value: Any) -> str:
    return {list: "list", str: "string", bool: "boolean", type(None): "null"}.get(type(value), type(value).__name__)
