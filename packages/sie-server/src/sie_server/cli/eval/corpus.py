"""`corpus.jsonl` of BEIR's format: one scan finds the documents, and they are read again when they are needed."""

from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from sie_server.cli.eval.dataset import Advance, Lines, Query
from sie_server.cli.rerank.corpus import Entry, parsed
from sie_server.cli.streaming.lines import FaultError, open_input


class Document(NamedTuple):
    """A line of the corpus: its number from 1, the offset of its first byte, and what is in it."""

    number: int
    offset: int
    id: str
    text: str


def documents(path: Path, lines: Lines) -> Iterator[Document]:
    """The documents in the lines of a file. Raises FaultError."""
    decoder = msgspec.json.Decoder(Entry)
    for line in lines:
        yield Document(line.number, line.offset, *parsed(decoder, path, line.content, line.number))


def locate(path: Path, needed: Collection[str], advance: Advance) -> tuple[dict[str, int], str]:
    """Offsets of the documents with these ids, as far as the corpus has them, and the SHA-256 of the file.

    Raises FaultError: a line is no document, or the id of a needed one is there twice.
    """
    offsets: dict[str, int] = {}
    lines = Lines(path, advance)
    for document in documents(path, lines):
        if document.id in needed:
            if document.id in offsets:
                raise lines.fault(document.number, f"the id '{document.id}' is there twice.")
            offsets[document.id] = document.offset
    return offsets, lines.digest


def reader(path: Path) -> Callable[[Query], list[str]]:
    """Reads the texts of a query's candidates. Raises FaultError if the file has changed since it was scanned."""
    decoder = msgspec.json.Decoder(Entry)

    def texts(query: Query) -> list[str]:
        found = []
        with open_input(path) as file:
            for name, offset in zip(query.candidates.ids, query.candidates.offsets, strict=True):
                file.seek(offset)
                id_, text = parsed(decoder, path, file.readline(), None)
                if id_ != name:
                    raise FaultError(f"{path} has changed meanwhile.")
                found.append(text)
        return found

    return texts


def offsets_of(ids: list[str], known: dict[str, int]) -> "array[int]":
    """Offsets of these documents, all of which are known."""
    return array("q", (known[each] for each in ids))
