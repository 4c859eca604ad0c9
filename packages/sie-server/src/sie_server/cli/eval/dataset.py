"""Judged queries with their candidates, whose texts stay on the disk."""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sie_server.cli.streaming.lines import FaultError, json_fault, number_of_columns, open_input, skip_mark

# What is being done, how much of it is done, and of how much.
Advance = Callable[[str, int, int], None]
_STEP = 256


@dataclass(frozen=True, slots=True)
class Candidates:
    """Documents of the first stage for one query, in its order.

    offsets: where the texts are, for the dataset that they belong to. scores: of the first stage; none if it gave only
    an order.
    """

    ids: Sequence[str]
    offsets: "array[int]"
    scores: Sequence[float] | None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Query:
    """A judged query. grades: by document, also of documents that are no candidates; 0 and less is not relevant."""

    id: str
    text: str
    candidates: Candidates
    grades: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of queries and documents that were left out of a dataset, or that its judgments miss.

    unjudged: queries without a judgment, which are not evaluated. unknown: judged queries without a text, which are
    not evaluated either. absent: relevant documents that are not in the corpus. contradictory: queries whose ranks in
    the run contradict the scores, which count.
    """

    unjudged: int = 0
    unknown: int = 0
    absent: int = 0
    contradictory: int = 0


@dataclass(frozen=True, slots=True)
class Dataset:
    """Judged queries, in the order of their file.

    sources: SHA-256 of each file, and the settings of the first stage, by name; two datasets with equal ones give a
    ranker the same texts. first_stage: its name. texts: the candidates' texts, read from the disk; raises FaultError.
    """

    name: str
    queries: Sequence[Query]
    counts: Counts
    first_stage: str
    sources: Mapping[str, str]
    texts: Callable[[Query], list[str]] = field(repr=False)


class Line(NamedTuple):
    """A line of a file that is not empty. number: from 1. offset: of its first byte."""

    number: int
    offset: int
    content: bytes


class Lines:
    """The lines of a file that are not empty, and the SHA-256 of the file once all are read.

    A byte order mark of UTF-8 at the beginning belongs to neither.

    Iterating raises FaultError if the file can't be read.
    """

    def __init__(self, path: Path, advance: Advance | None = None) -> None:
        self._path = path
        self._advance = advance
        self._hash = sha256()

    def __iter__(self) -> Iterator[Line]:
        with open_input(self._path) as file:
            size = max(1, self._path.stat().st_size)
            offset = skip_mark(file)
            for number, content in enumerate(file, 1):
                self._hash.update(content)
                if content.strip():
                    yield Line(number, offset, content)
                offset += len(content)
                if self._advance and number % _STEP == 0:
                    self._advance(f"reading {self._path.name}", offset, size)

    @property
    def digest(self) -> str:
        """SHA-256 of what has been read."""
        return self._hash.hexdigest()

    def fault(self, number: int, message: str) -> FaultError:
        """An error in a line of this file."""
        return FaultError(f"{self._path}, line {number}: {message}")


def digest(path: Path) -> str:
    """SHA-256 of a file without a byte order mark. Raises FaultError."""
    with open_input(path) as file:
        skip_mark(file)
        return file_digest(file, "sha256").hexdigest()


def decoded(lines: Lines, line: Line, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """A line of JSON in the form of the decoder's type. Raises FaultError."""
    try:
        return decoder.decode(line.content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise lines.fault(line.number, json_fault(error)) from error


def words(lines: Lines, line: Line, columns: Sequence[str], separator: bytes | None = None) -> list[str]:
    """The columns of a line of text. Raises FaultError if there are more or less."""
    try:
        found = [word.decode().strip() for word in line.content.rstrip(b"\r\n").split(separator)]
    except UnicodeDecodeError as error:
        raise lines.fault(line.number, "it is not UTF-8.") from error
    if len(found) != len(columns):
        expected = f"{', '.join(columns[:-1])} and {columns[-1]}"
        raise lines.fault(line.number, f"it has {number_of_columns(len(found))} in place of {expected}.")
    return found
