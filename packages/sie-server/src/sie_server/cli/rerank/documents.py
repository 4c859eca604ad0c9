"""The ranking of one query's documents, of which there is one per line of the input.

However many there are, only three numbers of each are in memory; the texts are read again when they are written.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO

import numpy as np

from sie_server.cli.rankers.ranker import Ranker, RankerError
from sie_server.cli.rerank.formats import Form
from sie_server.cli.rerank.request import identity
from sie_server.cli.rerank.texts import Texts
from sie_server.cli.streaming.batches import Batch, batches
from sie_server.cli.streaming.destination import Destination
from sie_server.cli.streaming.in_order import Window
from sie_server.cli.streaming.lines import Line, Lines
from sie_server.cli.streaming.progress_bar import ProgressBar
from sie_server.cli.streaming.run import OnError, Outcome, each_alone, stream

# Documents and characters of a request, and those in progress: enough to fill the batches of all cores.
_MOST, _MOST_CHARACTERS = 128, 2**17
_WINDOW = Window(16, 2**20)
NO_SCORE = np.array(np.nan, "<f8").tobytes()


class Scores:
    """Scores in memory, in the place of a file."""

    def __init__(self) -> None:
        self.lines = self.failed = 0
        self.values = array("d")

    def passed(self, line: bytes) -> None:
        raise AssertionError("no line was done before")

    def add(self, line: bytes, result: bytes, *, failed: bool = False) -> None:
        self.lines += 1
        self.failed += failed
        self.values.frombytes(result)

    def save(self) -> None:
        pass


class Documents:
    """The documents in a file; None: in standard input, of which a temporary file is the copy.

    as_json: whether lines are JSON, or text; None: as the first line tells. Used as a context manager.
    """

    def __init__(self, path: Path | None, lines: Lines, *, as_json: bool | None) -> None:
        self._path, self._lines = path, lines
        self._texts = Texts(lines.fault, as_json=as_json)
        self._copy: IO[bytes] | None = None if lines.size is not None else TemporaryFile()  # noqa: SIM115 # closed below
        self._offsets = array("q")
        self._numbers = array("q")

    def __enter__(self) -> "Documents":
        return self

    def __exit__(self, *_: object) -> None:
        if self._copy is not None:
            self._copy.close()

    async def score(
        self, ranker: Ranker, query: str, destination: Destination, on_error: OnError, progress: ProgressBar
    ) -> None:
        """Add the score of each document to the destination, eight bytes, NaN for a document that failed.

        Raises as `stream`.
        """

        async def scored(texts: Sequence[str]) -> Sequence[bytes]:
            ranked = await ranker.rank(query, texts)
            return [np.array(score, "<f8").tobytes() for score in ranked.scores]

        def failed(batch: Batch[str], index: int, message: str) -> RankerError:
            return RankerError(str(self._lines.fault(batch.lines[index], message)))

        async def work(batch: Batch[str]) -> Sequence[Outcome]:
            return await each_alone(scored, batch, failed)

        found = batches(
            self._lines, destination, self._text, len, most=_MOST, most_size=_MOST_CHARACTERS, seen=self._see
        )
        await stream(found, work, destination, _WINDOW, on_error, progress, without=NO_SCORE)

    def ranking(self, scores: "np.ndarray[Any, np.dtype[np.float64]]", form: Form) -> Iterator[bytes]:
        """The documents in the form, best first, without those that have no score."""
        order = np.argsort(-scores, kind="stable")
        scored = int(np.count_nonzero(~np.isnan(scores)))
        with self._opened() as file:
            for rank, index in enumerate(order[:scored][: form.top].tolist(), 1):
                file.seek(self._offsets[index])
                line = Line(self._numbers[index], self._offsets[index], file.readline().rstrip(b"\r\n"))
                text, fields = self._texts.read(line)
                yield form.document(
                    rank, float(scores[index]), text, fields, index, identity(fields) or str(line.number)
                )

    def _see(self, line: Line) -> None:
        self._texts.see(line)
        offset = line.offset
        if self._copy is not None:
            offset = self._copy.tell()
            self._copy.write(line.content + b"\n")
        self._offsets.append(offset)
        self._numbers.append(line.number)

    def _text(self, line: Line) -> str:
        return self._texts.read(line)[0]

    def _opened(self) -> IO[bytes]:
        if self._copy is None:
            assert self._path is not None
            return self._path.open("rb")
        self._copy.flush()
        return self._copy


def finish(documents: Documents, query: str, form: Form, path: Path) -> Callable[[BinaryIO], None]:
    """A function that makes the complete file of a file of scores."""

    def write(scores: BinaryIO) -> None:
        scores.seek(0)
        values = np.frombuffer(scores.read(), "<f8")
        with path.open("wb") as file:
            file.write(form.heading(query))
            file.writelines(documents.ranking(values, form))

    return write
