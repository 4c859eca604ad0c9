"""`corpus.jsonl` of BEIR's format: one scan for the places of the documents, which are read again when they are needed.

A document's text is its title, a space, and its text, as in BEIR.
"""

from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from sie_server.cli.eval.dataset import Advance, DatasetError, Lines, Query, decoded, opened


class Document(msgspec.Struct, frozen=True):
    """A line of the corpus; BEIR's further fields, such as `metadata`, are not part of the text."""

    id: str = msgspec.field(name="_id")
    text: str
    title: str | None = None

    @property
    def whole(self) -> str:
        """Title and text."""
        return f"{self.title or ''} {self.text}".strip()


def documents(lines: Lines) -> Iterator[tuple[int, int, Document]]:
    """Line number, offset and document of every line. Raises DatasetError."""
    decoder = msgspec.json.Decoder(Document)
    for line in lines:
        yield line.number, line.offset, decoded(lines, line, decoder)


def locate(path: Path, needed: Collection[str], advance: Advance) -> tuple[dict[str, int], str]:
    """Offsets of the documents with these ids, as far as the corpus has them, and the SHA-256 of the file.

    Raises DatasetError: a line is no document, or the id of a needed one is there twice.
    """
    offsets: dict[str, int] = {}
    lines = Lines(path, advance)
    for number, offset, document in documents(lines):
        if document.id in needed:
            if document.id in offsets:
                raise lines.fault(number, f"the _id '{document.id}' is there already.")
            offsets[document.id] = offset
    return offsets, lines.digest


def parse(path: Path, line: bytes) -> Document:
    """A document of a corpus that has been scanned before. Raises DatasetError if it has changed since."""
    try:
        return msgspec.json.decode(line, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} has changed since it was read.") from error


def reader(path: Path) -> Callable[[Query], list[str]]:
    """Reads the texts of a query's candidates."""

    def texts(query: Query) -> list[str]:
        found = []
        with opened(path) as file:
            for name, offset in zip(query.candidates.ids, query.candidates.offsets, strict=True):
                file.seek(offset)
                document = parse(path, file.readline())
                if document.id != name:
                    raise DatasetError(f"{path} has changed since it was read.")
                found.append(document.whole)
        return found

    return texts


def offsets_of(ids: list[str], known: dict[str, int]) -> "array[int]":
    """Offsets of these documents, all of which are known."""
    return array("q", (known[each] for each in ids))
