"""Progress of a large input: a callback or a progress bar."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress

Report = Callable[[int], None]


def reporting(progress: Report | bool, total: int | None) -> AbstractContextManager[Report]:
    """Returns a context manager whose value takes the number of items that are done.

    `progress` is the caller's function, or whether to draw a bar; `total` is the number of items, if it is known.
    Raises ImportError for a bar if rich is not installed.
    """
    if callable(progress):
        return nullcontext(progress)
    if not progress:
        return nullcontext(lambda _: None)
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    except ImportError as error:
        raise ImportError("progress=True needs rich: pip install rich") from error
    # On standard error, because the results may go to standard output.
    bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    return _shown(bar, total)


@contextmanager
def _shown(bar: "rich.progress.Progress", total: int | None) -> Iterator[Report]:
    with bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)
