"""Where results go: standard output, or a file that a later run can complete."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import msgspec

from sie_server.cli.streaming.lines import FaultError

_SUFFIX = ".resume"
_SAVE_BYTES = 2**22


class Progress(msgspec.Struct):
    """The progress of a file. settings: by name, all that its content depends on except the input.

    lines: that are done, of the input; digest: SHA-256 of them. size: in bytes, of their results. failed: lines without
    a result. output: SHA-256 of the file, once it is complete.
    """

    settings: dict[str, str]
    lines: int = 0
    digest: str = ""
    size: int = 0
    failed: int = 0
    output: str = ""


class Destination(Protocol):
    """Takes the results of lines, in order. lines, failed: number of lines that are done, and that have no result."""

    lines: int
    failed: int

    def passed(self, line: bytes) -> None:
        """Note a line that an earlier run has done. Raises FaultError: after the last one, if they are others now."""

    def add(self, line: bytes, result: bytes, *, failed: bool = False) -> None:
        """Take the result of a line. Raises OSError."""

    def save(self) -> None:
        """Write what has been added, if it is not written yet. Raises OSError."""


class Stream:
    """Standard output, a pipe or a device: there is nothing to resume, and each result is written at once."""

    def __init__(self, file: BinaryIO) -> None:
        self.lines = self.failed = 0
        self._file = file

    def passed(self, line: bytes) -> None:
        raise AssertionError("no line was done before")

    def add(self, line: bytes, result: bytes, *, failed: bool = False) -> None:
        self.lines += 1
        self.failed += failed
        self.write(result)

    def save(self) -> None:
        pass

    def write(self, result: bytes) -> None:
        """Write at once. Raises OSError."""
        self._file.write(result)
        self._file.flush()


def check_no_output(*, resume: bool, overwrite: bool) -> None:
    """Refuse flags that are about an output, where there is none. Raises FaultError."""
    if resume or overwrite:
        raise FaultError(f"--{'resume' if resume else 'overwrite'} needs --output.")


def check_output(path: Path, inputs: Iterable[Path | None], *, resume: bool, overwrite: bool) -> None:
    """Refuse an output that a run would refuse later.

    Raises:
        FaultError: it exists, is one of the inputs, or has no folder.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise FaultError(f"{path} can't be written: {'it is a folder' if path.is_dir() else 'its folder is missing'}.")
    if any(each is not None and each.exists() and path.exists() and each.samefile(path) for each in inputs):
        raise FaultError(f"{path} is an input, and can't be the output.")
    if resume and overwrite:
        raise FaultError("--resume and --overwrite exclude each other.")
    _found(path, {}, resume=resume, overwrite=overwrite)


class ResumableFile:
    """A file that has a second file with its progress, the note, until it is complete; with `resume`, after that too.

    If the note tells that the file is complete, and of these settings, the lines of the input are compared with those
    of which it was made, and nothing is written.

    The note is written after the results that it counts, and replaced in one step: whenever the process ends, the
    results up to the note are whole. A later run drops what comes after them.
    """

    def __init__(self, path: Path, settings: Mapping[str, str], *, resume: bool, overwrite: bool, work: Path | None):
        """path: of the complete file. work: of the file with the results, if they become the complete file at the end.

        Raises:
            FaultError: the file exists, is of other settings, is being written by another process, or can't be written.
        """
        self._path, self._work = path, work or path
        self._note, self._resume = _note(path), resume
        self._settings = dict(settings)
        self._hash = hashlib.sha256()
        self._seen = 0
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._complete = False
        self._error: OSError | None = None
        found = _found(path, settings, resume=resume, overwrite=overwrite)
        self._file: BinaryIO = path.open("rb") if found.output else self._opened(found)
        self._before = found
        self.lines, self.failed = found.lines, found.failed
        self._size = found.size
        if not found.lines and not found.output:
            self._write_note()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing any more."""
        return self._complete

    @property
    def was_complete(self) -> bool:
        """Whether nothing was missing from the beginning."""
        return bool(self._before.output)

    @property
    def left_over(self) -> str | None:
        """A sentence about what a later run can go on with; None: nothing is missing."""
        if self._complete or self.was_complete:
            return None
        return f"{self._path} has {self.lines:,} lines of the input; --resume goes on with it."

    def passed(self, line: bytes) -> None:
        self._count(line)
        if self._seen == self._before.lines and self._hash.hexdigest() != self._before.digest:
            raise FaultError(
                f"{self._path} was begun with another input: its first {self._seen} lines differ from those of this "
                "one. Give the same input, or start again with --overwrite."
            )

    def add(self, line: bytes, result: bytes, *, failed: bool = False) -> None:
        if self.was_complete:
            raise FaultError(
                f"{self._path} is the complete result of the first {self._before.lines:,} lines of this input, which "
                "has more now. To replace it, give --overwrite."
            )
        self._count(line)
        self.lines += 1
        self.failed += failed
        self._unwritten.append(result)
        self._unwritten_bytes += len(result)
        if self._unwritten_bytes > _SAVE_BYTES:
            self.save()

    def save(self) -> None:
        if self._error is not None:
            raise self._error
        if not self._unwritten:
            return
        try:
            for result in self._unwritten:
                self._file.write(result)
            self._file.flush()
        except OSError as error:
            self._error = error  # nobody knows how much is written
            raise
        self._size += self._unwritten_bytes
        self._unwritten, self._unwritten_bytes = [], 0
        self._write_note()

    def close(self) -> None:
        """Write what has been added, and stay resumable. Raises OSError."""
        try:
            self.save()
        finally:
            self._file.close()

    def complete(self, finish: Callable[[BinaryIO], None] | None = None) -> None:
        """Note that nothing is missing any more. finish: makes the complete file of the results.

        Raises:
            FaultError: the input has fewer lines than an earlier run has done.
            OSError: the file can't be written.
        """
        if self._seen < self._before.lines:
            raise FaultError(
                f"{self._path} was begun with another input: {self._before.lines} lines of that are done, and this one "
                f"has {self._seen}. Give the same input, or start again with --overwrite."
            )
        if self.was_complete:
            self._file.close()
            self._complete = True
            return
        self.save()
        if finish is not None:
            finish(self._file)
        self._file.close()
        if self._resume:
            self._write_note(_digest(self._path))
        else:
            self._note.unlink(missing_ok=True)
        if self._work != self._path:
            self._work.unlink(missing_ok=True)
        self._complete = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._file.closed:
            self.close()

    def _opened(self, found: Progress) -> BinaryIO:
        """The file with the results, behind those that are done. Raises FaultError."""
        try:
            # It is not emptied before it is known that no other process has it.
            file = os.fdopen(os.open(self._work, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as error:
            raise FaultError(f"{self._work} can't be written: {error.strerror}.") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_size < found.size:
                raise FaultError(f"{self._work} is shorter than {self._note} says; start again with --overwrite.")
        except BlockingIOError:
            file.close()
            raise FaultError(f"{self._path} is being written by another process.") from None
        except FaultError:
            file.close()
            raise
        file.truncate(found.size)
        file.seek(found.size)
        return file

    def _count(self, line: bytes) -> None:
        self._seen += 1
        self._hash.update(line)
        self._hash.update(b"\n")

    def _write_note(self, output: str = "") -> None:
        progress = Progress(self._settings, self.lines, self._hash.hexdigest(), self._size, self.failed, output)
        new = self._note.with_name(self._note.name + ".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(progress), indent=1) + b"\n")
        new.replace(self._note)


def _found(path: Path, settings: Mapping[str, str], *, resume: bool, overwrite: bool) -> Progress:
    """The progress of an earlier run of these settings; none: any. Raises FaultError: it can't be continued."""
    nothing, note = Progress(dict(settings)), _note(path)
    if overwrite or not (path.exists() or note.exists()):
        return nothing
    found = _noted(note)
    if found is not None and found.output and not path.exists():
        return nothing
    if not resume:
        unfinished = " To go on with it, give --resume." if found is not None and not found.output else ""
        raise FaultError(f"{path} exists already.{unfinished} To replace it, give --overwrite.")
    if found is None:
        raise FaultError(
            f"{path} can't be resumed: there is no {note}. Either it was completed by a run without --resume, which "
            "keeps no record, or it is of another program. To replace it, give --overwrite."
        )
    for name in {**found.settings, **settings} if settings else ():
        was, now = found.settings.get(name), settings.get(name)
        if was != now:
            raise FaultError(
                f"{path} was begun with another {name}: {was or 'none'}, and now {now or 'none'}. Give the "
                "same, or start again with --overwrite."
            )
    if settings and found.output and _digest(path) != found.output:
        raise FaultError(f"{path} has changed since it was completed. To replace it, give --overwrite.")
    return found


def _noted(note: Path) -> Progress | None:
    """The progress in a note; None if there is no note. Raises FaultError."""
    try:
        return msgspec.json.decode(note.read_bytes(), type=Progress)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise FaultError(f"{note} can't be read: {error}. Start again with --overwrite.") from None


def _digest(path: Path) -> str:
    """SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)
