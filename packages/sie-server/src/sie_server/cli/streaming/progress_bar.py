"""A progress bar on standard error, where that is a terminal, and messages above it."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar:
    """A bar of the bytes of the input that are done, with the number of `unit` and their rate.

    shown: whether to show one, if standard error is a terminal. Messages are printed in any case.
    """

    def __init__(self, description: str, unit: str, *, shown: bool) -> None:
        self._unit = unit
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not (shown and sys.stderr.isatty()),
        )
        self._task = self._progress.add_task(description, total=None, count="")
        self._count = 0

    def start(self, description: str, size: int | None) -> None:
        """Begin a new bar. size: number of bytes of the input, if it is known."""
        self._count = 0
        self._progress.reset(self._task, description=description, total=size, count="")

    def advance(self, done: int, count: int) -> None:
        """Show that the first `done` bytes are done, and `count` more of the unit."""
        self._count += count
        if self._progress.disable:
            return
        task = self._progress.tasks[0]
        rate = f", {self._count / task.elapsed:,.0f}/s" if task.elapsed else ""
        self._progress.update(self._task, completed=done, count=f"{self._count:,} {self._unit}{rate}")

    def say(self, message: str) -> None:
        """Print a message above the bar."""
        if self._progress.disable:
            print(message, file=sys.stderr)
        else:
            self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Remove the bar, to leave the terminal to the results."""
        self._progress.stop()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
