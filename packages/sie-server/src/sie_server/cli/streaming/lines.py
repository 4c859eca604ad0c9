"""The lines of a file or of standard input, read in chunks on a thread of their own."""

import asyncio
import codecs
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

import msgspec

_CHUNK_BYTES = 2**18
_MARK = codecs.BOM_UTF8
STANDARD_INPUT = "standard input"


class FaultError(Exception):
    """The input, a flag or an existing output is wrong. The message is a sentence with file, line and field."""


class Line(NamedTuple):
    """A line that is not blank. number: from 1. offset: of its first byte. content: without the end of the line."""

    number: int
    offset: int
    content: bytes


def json_fault(error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    """A sentence about a line that can't be decoded: that it is malformed, or the field that is wrong."""
    return f"{error}." if isinstance(error, msgspec.ValidationError) else f"it is not valid JSON: {error}."


def number_of_columns(found: int) -> str:
    """A number of columns in words.

    >>> number_of_columns(1), number_of_columns(5)
    ('1 column', '5 columns')
    """
    return f"{found} column{'' if found == 1 else 's'}"


def open_input(path: Path) -> BufferedReader:
    """Open a file for reading. Raises FaultError."""
    try:
        return path.open("rb")
    except OSError as error:
        raise FaultError(f"{path} can't be read: {error.strerror}.") from None


def skip_mark(file: BufferedReader) -> int:
    """Read the byte order mark of UTF-8, if the file begins with one. Number of bytes that are read."""
    return len(file.read(len(_MARK))) if file.peek(len(_MARK)).startswith(_MARK) else 0


class Lines:
    """The lines of a file; None: of standard input. name: for messages. size: in bytes, where it is known.

    A byte order mark of UTF-8 at the beginning is no part of the first line.

    An iteration yields what has arrived, a list at a time, so that what a slow writer has written is not held back. It
    raises FaultError if the file can't be read.
    """

    def __init__(self, path: Path | None) -> None:
        """Raises FaultError: there is no such file, or it can't be read."""
        self.name = STANDARD_INPUT if path is None else str(path)
        self._owned = path is not None
        try:
            if path is not None and path.is_dir():
                raise OSError(None, "it is a folder")
            self._descriptor = sys.stdin.fileno() if path is None else os.open(path, os.O_RDONLY)
            self.size = os.fstat(self._descriptor).st_size if path is not None and path.is_file() else None
        except OSError as error:
            raise FaultError(f"{self.name} can't be read: {error.strerror or error}.") from None

    def fault(self, line: Line, message: str) -> FaultError:
        """An error in a line of this file."""
        return FaultError(f"{self.name}, line {line.number}: {message}")

    async def __aiter__(self) -> AsyncIterator[list[Line]]:
        reader = _Reader(self._descriptor)
        rest: list[bytes] = []
        number = offset = 0
        try:
            while chunk := await self._read(reader):
                *whole, last = chunk.split(b"\n")
                if whole:
                    whole[0] = b"".join([*rest, whole[0]])
                    rest = []
                    found = []
                    for content in whole:
                        number += 1
                        if number == 1 and content.startswith(_MARK):
                            content, offset = content.removeprefix(_MARK), len(_MARK)
                        if not content.isspace() and content:
                            found.append(Line(number, offset, content.removesuffix(b"\r")))
                        offset += len(content) + 1
                    yield found
                rest.append(last)
            content = b"".join(rest)
            if number == 0 and content.startswith(_MARK):
                content, offset = content.removeprefix(_MARK), len(_MARK)
            if content and not content.isspace():
                yield [Line(number + 1, offset, content)]
        finally:
            reader.close()
            if self._owned:
                os.close(self._descriptor)

    async def _read(self, reader: "_Reader") -> bytes:
        try:
            return await reader.read()
        except OSError as error:
            raise FaultError(f"{self.name} can't be read: {error.strerror}.") from None


class _Reader:
    """Reads a file descriptor on a thread that ends with the process: nothing can interrupt a read of a pipe.

    The descriptor itself is read, since the process would wait at its end for the lock of a buffer.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._wanted: SimpleQueue[asyncio.Future[bytes] | None] = SimpleQueue()
        Thread(target=self._run, name="read", daemon=True).start()

    async def read(self) -> bytes:
        """The next bytes; none at the end. Raises OSError."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._wanted.put(future)
        return await future

    def close(self) -> None:
        """Let the thread end, once it has read."""
        self._wanted.put(None)

    def _run(self) -> None:
        while (future := self._wanted.get()) is not None:
            content, error = b"", None
            try:
                content = os.read(self._descriptor, _CHUNK_BYTES)
            except OSError as raised:
                error = raised
            with suppress(RuntimeError):  # the loop is closed
                future.get_loop().call_soon_threadsafe(_settle, future, content, error)


def _settle(future: "asyncio.Future[bytes]", content: bytes, error: OSError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(content)
    else:
        future.set_exception(error)
