"""The scores of a contender, written down query by query, so that a run that was stopped goes on where it was."""

import fcntl
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

import msgspec

from sie_server.cli.eval.dataset import Query
from sie_server.cli.streaming.lines import FaultError

_SUFFIX = ".scores.jsonl"
_NAME_CHARACTERS = 60


class Header(msgspec.Struct, frozen=True):
    """First line of a journal: the name of the contender, and what its scores depend on, by name."""

    name: str
    dataset: dict[str, str]
    settings: dict[str, str]


class Scored(msgspec.Struct, frozen=True, omit_defaults=True):
    """The scores of one query's candidates, in their order.

    started: Unix time in seconds. seconds: duration of the request. tokens, truncated: None if the ranker does not
    tell.
    """

    query: str
    scores: list[float]
    started: float
    seconds: float
    tokens: int | None = None
    truncated: int | None = None


class Journal:
    """Scores by query; each is in the file, where there is one, as soon as `add` returns.

    Used as a context manager, during which no other process can use the file.
    """

    def __init__(self, path: Path | None, header: Header) -> None:
        self.scored: dict[str, Scored] = {}
        self._path = path
        self._header = header
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Read what is there. Raises FaultError."""
        if self._path is None:
            return self
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise FaultError(f"{self._path} can't be written: {error.strerror}.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read(self._path, self._file)
        except BlockingIOError:
            self._file.close()
            raise FaultError(f"{self._path} is being written by another run.") from None
        except FaultError:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, scored: Scored) -> None:
        """Remember the scores of a query."""
        self.scored[scored.query] = scored
        self._write(scored)

    def check(self, queries: Mapping[str, Query]) -> None:
        """Check that what was read are scores of these queries' candidates. Raises FaultError."""
        for name, scored in self.scored.items():
            if name not in queries or len(scored.scores) != len(queries[name].candidates):
                raise FaultError(f"{self._path} has scores of other documents for query '{name}'.")

    def _read(self, path: Path, file: IO[bytes]) -> None:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # the process ended within a line
            file.truncate(whole)
        lines = content[:whole].splitlines()
        if not lines:
            self._write(self._header)
            return
        try:
            header = msgspec.json.decode(lines[0], type=Header)
            decoder = msgspec.json.Decoder(Scored)
            self.scored = {scored.query: scored for scored in map(decoder.decode, lines[1:])}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FaultError(f"{path} is not a journal of scores: {error}.") from error
        check_header(path, header, self._header)

    def _write(self, line: object) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()


def journal_path(folder: Path, name: str) -> Path:
    """Where the scores of a contender are: its name, as far as a file can have it, and a hash of it."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[-_NAME_CHARACTERS:].strip("-.")
    return folder / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}{_SUFFIX}"


def check_folder(folder: Path, dataset: Mapping[str, str]) -> None:
    """Check that all scores in a folder are of this dataset. Raises FaultError."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with path.open("rb") as file:
            line = file.readline()
        if not line.endswith(b"\n"):
            continue
        try:
            header = msgspec.json.decode(line, type=Header)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FaultError(f"{path} is not a journal of scores: {error}.") from error
        _compare(path, "the dataset", header.dataset, dataset)


def check_header(path: Path, found: Header, wanted: Header) -> None:
    """Check that scores are of this dataset and these settings. Raises FaultError."""
    _compare(path, "the dataset", found.dataset, wanted.dataset)
    _compare(path, f"'{wanted.name}'", found.settings, wanted.settings)


def _compare(path: Path, what: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    differing = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    if not differing:
        return
    changes = " and ".join(_change(name, found.get(name), wanted.get(name)) for name in differing)
    raise FaultError(
        f"{path} holds scores from before {what} changed: {changes}. Choose another --output, or delete that file."
    )


def _change(name: str, found: str | None, wanted: str | None) -> str:
    if any(value is None or re.fullmatch(r"[0-9a-f]{16,64}", value) for value in (found, wanted)):
        return f"{name} {'is new' if found is None else 'is gone' if wanted is None else 'has changed'}"
    return f"{name} was {found or 'not set'} and is {wanted or 'not set'} now"
