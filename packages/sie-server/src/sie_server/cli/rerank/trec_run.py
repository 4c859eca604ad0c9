"""The first documents of each query in a TREC run, whose lines stay on the disk."""

import math
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from sie_server.cli.streaming.lines import FaultError, number_of_columns, open_input, skip_mark

_COLUMNS = 6
_EVERY = 4096


class Candidates(NamedTuple):
    """A query of a run, and the ids of its documents, best first. places: of their lines, for messages."""

    query: str
    documents: list[str]
    places: list[str]


class TrecRun:
    """A run, `query Q0 document rank score name` in each line, in any order.

    Of each line, four numbers are in memory, less than thirty bytes. The order is that of trec_eval: by the scores, in
    float32, and not by the ranks; of equal scores, the largest id is first. queries: ids, in the order of the file.
    Used as a context manager.
    """

    def __init__(self, path: Path, advance: Callable[[int, int], None]) -> None:
        """Scan the file. advance: called with the number of bytes that are read, and of lines that are new.

        Raises:
            FaultError: the file can't be read, or a line has other columns.
        """
        self._path = path
        self._file = open_input(path)
        try:
            self._scan(advance)
        except BaseException:
            self._file.close()
            raise

    def _scan(self, advance: Callable[[int, int], None]) -> None:
        numbers: dict[str, int] = {}
        queries, offsets, scores, lines, offset = array("i"), array("q"), array("d"), array("q"), skip_mark(self._file)
        for number, line in enumerate(self._file, 1):
            if not line.isspace():
                columns = self._columns(line, number)
                queries.append(numbers.setdefault(columns[0], len(numbers)))
                scores.append(self._score(columns[4], number))
                offsets.append(offset)
                lines.append(number)
            offset += len(line)
            if number % _EVERY == 0:
                advance(offset, _EVERY)
        self.queries = list(numbers)
        of_query = np.frombuffer(queries, np.intc) if queries else np.empty(0, np.intc)
        values = np.frombuffer(scores, np.float64).astype(np.float32) if scores else np.empty(0, np.float32)
        order = np.lexsort((-values, of_query))
        self._offsets = np.frombuffer(offsets, np.int64)[order] if offsets else np.empty(0, np.int64)
        self._lines = np.frombuffer(lines, np.int64)[order] if lines else np.empty(0, np.int64)
        self._scores = values[order]
        self._starts = np.searchsorted(of_query[order], np.arange(len(numbers) + 1))

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._offsets)

    def candidates(self, depth: int | None) -> Iterator[Candidates]:
        """Each query with its first `depth` documents; None: all. Raises FaultError: one is there twice."""
        for index, query in enumerate(self.queries):
            start, end = int(self._starts[index]), int(self._starts[index + 1])
            stop = end if depth is None else min(end, start + depth)
            # Of documents with equal scores, the id decides which are among the first.
            while start < stop < end and self._scores[stop] == self._scores[stop - 1]:
                stop += 1
            lines = [(float(self._scores[at]), *self._document(at)) for at in range(start, stop)]
            lines.sort(key=lambda line: line[:2], reverse=True)
            documents = [document for _, document, _ in lines[:depth]]
            places = [place for _, _, place in lines[:depth]]
            if len(set(documents)) < len(documents):
                twice = next(name for name in documents if documents.count(name) > 1)
                last = max(index for index, name in enumerate(documents) if name == twice)
                raise FaultError(f"{places[last]}: document '{twice}' is there twice for query '{query}'.")
            yield Candidates(query, documents, places)

    def _document(self, at: int) -> tuple[str, str]:
        """The id in a line, and its place."""
        self._file.seek(int(self._offsets[at]))
        number = int(self._lines[at])
        return self._columns(self._file.readline(), number)[2], f"{self._path}, line {number}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _columns(self, line: bytes, number: int) -> list[str]:
        try:
            columns = line.decode().split()
        except UnicodeDecodeError as error:
            raise FaultError(f"{self._path}, line {number}: it is not UTF-8: {error}.") from None
        if len(columns) != _COLUMNS:
            raise FaultError(
                f"{self._path}, line {number}: it has {number_of_columns(len(columns))} in place of query, Q0, "
                "document, rank, score and name."
            )
        return columns

    def _score(self, column: str, number: int) -> float:
        try:
            score = float(column)
        except ValueError:
            score = math.nan
        if math.isnan(score):
            raise FaultError(f"{self._path}, line {number}: the score '{column}' is not a number.")
        return score
