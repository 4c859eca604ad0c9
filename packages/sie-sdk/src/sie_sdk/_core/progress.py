"""Telling a person, or a program, how far a large input has come."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress

Report = Callable[[int], None]


def reporting(progress: Report | bool, total: int | None) -> AbstractContextManager[Report]:
    """What to tell the number of items that are done: the caller's own function, or a bar.

    `total` is the number of items in all, if it is known. Raises ImportError if a bar is asked for without rich.
    """
    if callable(progress):
        return nullcontext(progress)
    if not progress:
        return nullcontext(lambda _: None)
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    except ImportError as error:
        raise ImportError("progress=True draws its bar with rich: pip install rich") from error
    # The standard output may be where the results go.
    bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    return _shown(bar, total)


@contextmanager
def _shown(bar: "rich.progress.Progress", total: int | None) -> Iterator[Report]:
    with bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)
