"""The argument that names the file to read."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def _check(_: Any, path: Path | None) -> None:
    # `-` needs leading hyphens to be allowed, which would take a misspelled option for a file.
    if path is not None and str(path).startswith("-") and str(path) != "-":
        raise ValueError(f"unknown option {path}; a file of this name is ./{path}")


def input_path(file: Path | None) -> Path | None:
    """The file to read; None: standard input."""
    return None if file == Path("-") else file


InputFile = Annotated[Path | None, Parameter(allow_leading_hyphen=True, validator=_check)]
