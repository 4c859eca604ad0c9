"""Progress, tables and failed rows of benchmarks with one row per model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import sentence_transformers
import torch
import transformers
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from sie_server.cli.bench.figures import Summary
from sie_server.machine.processor import processor_name
from sie_server.nn.precision import resolve_precision

# Named steps with a progress bar.
Steps = Callable[[str, Sequence[Any]], Iterable[Any]]
Result = TypeVar("Result")


def each(names: Sequence[str], measure: Callable[[str, Steps], Result]) -> dict[str, Result | Exception]:
    """Call `measure` for each name; returns its results, or the exceptions, so that other rows are kept."""
    results: dict[str, Result | Exception] = {}
    with Progress(console=Console(stderr=True)) as progress:
        rows = progress.add_task("", total=len(names))
        steps = partial(_steps, progress, progress.add_task(""))
        for name in names:
            progress.update(rows, description=name)
            try:
                results[name] = measure(name, steps)
            except Exception as error:
                results[name] = error
            progress.advance(rows)
    return results


def auto() -> str:
    """Resolve the precision "auto" on this machine."""
    return str(resolve_precision("auto", torch.device("cpu"))).removeprefix("torch.")


def versions() -> dict[str, Any]:
    """Of what was measured, and on what."""
    return {
        "processor": processor_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sentence-transformers": sentence_transformers.__version__,
        "reference threads": torch.get_num_threads(),
        "auto": auto(),
    }


def show(
    columns: Sequence[str],
    lines: Iterable[list[str]],
    about: Mapping[str, Any],
    markdown: bool,
    note: str = "median (min–max)",
) -> None:
    """Print a table, for a terminal or in Markdown, with notes below."""
    caption = ", ".join(f"{name} {value}" for name, value in about.items()) + f"; {note}"
    columns = [column.format(auto=auto()) for column in columns]
    if markdown:
        print("\n".join(_markdown([columns, ["---"] * len(columns), *lines])), f"\n\n{caption}")
        return
    table = Table(*columns, caption=caption, show_lines=True)
    for line in lines:
        table.add_row(*map(escape, line))
    console = Console()
    console.width = max(console.width, 150)
    console.print(table)


def times(ratio: Summary) -> str:
    return f"{ratio.median:.2f} × ({ratio.low:.2f}–{ratio.high:.2f})"


def why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _steps(progress: Progress, task: TaskID, description: str, items: Sequence[Any]) -> Iterable[Any]:
    """The items, and how many of them are done on the progress bar of `task`."""
    progress.reset(task, total=len(items), description=description)
    return progress.track(items, task_id=task)


def _markdown(lines: Iterable[list[str]]) -> list[str]:
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", ", ") for cell in line) + " |" for line in lines]
