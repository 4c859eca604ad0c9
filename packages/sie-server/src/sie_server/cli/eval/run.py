"""An evaluation from its dataset to its figures."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from sie_server.cli.eval.beir import read_folder
from sie_server.cli.eval.bm25 import Language
from sie_server.cli.eval.contender import Contender
from sie_server.cli.eval.dataset import Dataset
from sie_server.cli.eval.journal import Header, Journal, check_folder, journal_path
from sie_server.cli.eval.judged_lists import read_lists
from sie_server.cli.eval.results import Contest
from sie_server.cli.eval.scoring import score_queries
from sie_server.cli.rankers.ranker import RankerError
from sie_server.cli.streaming.lines import FaultError


def read(
    path: Path,
    *,
    split: str | None,
    run: Path | None,
    depth: int,
    relevance_level: int,
    language: Language | None,
    progress: Progress,
) -> Dataset:
    """The dataset in a folder or in a file of JSON Lines. Raises FaultError."""
    task = progress.add_task(f"reading {path.name}", total=None)

    def advance(what: str, done: int, size: int) -> None:
        progress.update(task, description=what, completed=done, total=size)

    try:
        if path.is_dir():
            if run is not None and language is not None:
                raise FaultError("--bm25-language is of no use with --run, which has the candidates.")
            return read_folder(
                path,
                split=split,
                run=run,
                depth=depth,
                relevance_level=relevance_level,
                language=language or "english",
                advance=advance,
            )
        for flag, value in (("--split", split), ("--run", run), ("--bm25-language", language)):
            if value is not None:
                raise FaultError(f"{flag} is for a folder, and {path} is none: its lines have the documents.")
        return read_lists(path, depth=depth, advance=advance)
    finally:
        progress.remove_task(task)


class Runner:
    """Scores a dataset with each contender. output: the folder of the journals; None for none."""

    def __init__(self, dataset: Dataset, contenders: Sequence[Contender], output: Path | None, progress: Progress):
        self._dataset = dataset
        self._contenders = contenders
        self._output = output
        self._progress = progress
        self._queries = {query.id: query for query in dataset.queries}

    def prepare(self) -> None:
        """Look for missing models, and for scores of other data in the folder, before anything is scored.

        Raises:
            ValueError: the folder or the profile of a model does not exist.
            LoadError: a model can't be found or downloaded.
            FaultError: the folder has scores of other data, models or settings, or can't be written.
        """
        for contender in self._contenders:
            contender.fetch()
        if self._output is None:
            return
        try:
            self._output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FaultError(f"--output {self._output} can't be a folder: {error.strerror}.") from error
        check_folder(self._output, self._dataset.sources)
        for contender in self._contenders:
            with self._journal(contender, contender.settings()) as journal:
                journal.check(self._queries)

    def score(self) -> list[Contest]:
        """The scores of all contenders.

        Raises:
            ValueError: a setting can't be honoured.
            UnavailableError: a ranker can't be used, or not any more.
            RankerError: a ranker refused every query.
            FaultError: the files have changed.
            KeyboardInterrupt: Ctrl-C; the journals have what was scored.
        """
        return asyncio.run(self._score())

    async def _score(self) -> list[Contest]:
        total = len(self._dataset.queries)
        tasks = [self._progress.add_task(contender.name, total=total) for contender in self._contenders]
        pairs = zip(self._contenders, tasks, strict=True)
        return [await self._contest(contender, task, total) for contender, task in pairs]

    async def _contest(self, contender: Contender, task: TaskID, total: int) -> Contest:
        settings = contender.settings()
        with self._journal(contender, settings) as journal:
            journal.check(self._queries)
            done = len(journal.scored)
            empty = sum(not len(query.candidates) for query in self._dataset.queries)
            self._progress.update(task, completed=done + empty)
            failures = []
            if done + empty < total:
                self._progress.update(task, description=f"{contender.name} ({contender.flags.opening})")
                async with contender.flags.ranker() as ranker:
                    self._progress.update(task, description=contender.name)
                    failures = await score_queries(
                        ranker,
                        self._dataset,
                        journal,
                        contender.concurrency,
                        lambda: self._progress.advance(task),
                    )
            if failures and not journal.scored:
                raise RankerError(f"{contender.name} refused every query. The first error is: {failures[0].message}")
            return Contest(contender.name, settings, journal.scored, failures)

    def _journal(self, contender: Contender, settings: Any) -> Journal:
        path = None if self._output is None else journal_path(self._output, contender.name)
        return Journal(path, Header(contender.name, dict(self._dataset.sources), dict(settings)))


def bars() -> Sequence[Any]:
    """Columns of the progress bars."""
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
