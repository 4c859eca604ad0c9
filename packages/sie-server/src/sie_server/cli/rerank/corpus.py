"""Texts by id in a large file, of which no more than sixteen bytes per line are in memory."""

import hashlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from sie_server.cli.rerank.request import titled
from sie_server.cli.streaming.lines import FaultError, json_fault, open_input, skip_mark

_EVERY = 4096


class Entry(msgspec.Struct):
    """A line of BEIR's format. The text is the title, a space, and the text, as in BEIR."""

    text: str
    first: str | int | None = msgspec.field(default=None, name="_id")
    second: str | int | None = msgspec.field(default=None, name="id")
    title: str | None = None


class Corpus:
    """Documents by id, in lines `{"_id": …, "title": …, "text": …}`, or in columns of id and text, parted by a tab.

    An index has a hash of each id and the offset of its line, ordered by hash. digest: SHA-256 of the file,
    without a byte order mark. Used as a context manager.
    """

    def __init__(self, path: Path, advance: Callable[[int, int], None]) -> None:
        """Scan the file. advance: called with the number of bytes that are read, and of lines that are new.

        Raises:
            FaultError: the file can't be read, or a line is no document, or its id is there twice.
        """
        self._path = path
        self._decoder = msgspec.json.Decoder(Entry)
        self._file = open_input(path)
        try:
            self._scan(advance)
        except BaseException:
            self._file.close()
            raise

    def _scan(self, advance: Callable[[int, int], None]) -> None:
        whole, hashes, offsets, offset = hashlib.sha256(), array("Q"), array("q"), skip_mark(self._file)
        for number, line in enumerate(self._file, 1):
            whole.update(line)
            if not line.isspace():
                hashes.append(_hash(self._parsed(line, number)[0]))
                offsets.append(offset)
            offset += len(line)
            if number % _EVERY == 0:
                advance(offset, _EVERY)
        unordered = np.frombuffer(hashes, np.uint64) if hashes else np.empty(0, np.uint64)
        order = np.argsort(unordered, kind="stable")
        self._hashes = unordered[order]
        self._offsets = np.frombuffer(offsets, np.int64)[order] if offsets else np.empty(0, np.int64)
        self.digest = whole.hexdigest()
        self._refuse_repeated()

    def text(self, name: str) -> str | None:
        """The title and the text of a document; None if there is no such document. Raises FaultError."""
        wanted = np.uint64(_hash(name))
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            found, text = self._at(at)
            if found == name:
                return text
            at += 1
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _at(self, index: int) -> tuple[str, str]:
        self._file.seek(int(self._offsets[index]))
        return self._parsed(self._file.readline(), None)

    def _refuse_repeated(self) -> None:
        for value in np.unique(self._hashes[1:][self._hashes[1:] == self._hashes[:-1]]):
            same = np.flatnonzero(self._hashes == value).tolist()
            names = [self._at(index)[0] for index in same]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise FaultError(f"{self._path}: the id '{twice}' is there twice.")

    def _parsed(self, line: bytes, number: int | None) -> tuple[str, str]:
        return parsed(self._decoder, self._path, line, number)


def read_queries(path: Path) -> dict[str, str]:
    """The texts of the queries by id, in a file of the same format.

    Raises:
        FaultError: the file can't be read, or a line is no query, or its id is there twice.
    """
    queries: dict[str, str] = {}
    decoder = msgspec.json.Decoder(Entry)
    with open_input(path) as file:
        skip_mark(file)
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            name, text = parsed(decoder, path, line, number)
            if name in queries:
                raise FaultError(f"{path}, line {number}: the id '{name}' is there twice.")
            queries[name] = text
    return queries


def parsed(decoder: "msgspec.json.Decoder[Entry]", path: Path, line: bytes, number: int | None) -> tuple[str, str]:
    """Id and text of a line. number: None for a line that has been read before.

    Raises:
        FaultError: it has none, or, if it has been read before, the file has changed since.
    """
    where = f"{path}, line {number}" if number is not None else f"{path} has changed meanwhile"
    try:
        if not line.lstrip().startswith(b"{"):
            name, tab, text = line.decode().rstrip("\r\n").partition("\t")
            if not tab:
                raise FaultError(f"{where}: it is neither a JSON object, nor an id and a text parted by a tab.")
            return name.strip(), text
        entry = decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FaultError(f"{where}: {json_fault(error)}") from None
    found = entry.first if entry.first is not None else entry.second
    if found is None:
        raise FaultError(f"{where}: field '_id' is missing.")
    return str(found), titled(entry.title, entry.text)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
