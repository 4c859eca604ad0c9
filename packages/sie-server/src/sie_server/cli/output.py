"""The output of the commands: tables for people, JSON for programs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console

Json = Annotated[bool, Parameter(name="--json", negative=())]
# Tables in files and pipes are not wrapped.
_PIPE_WIDTH = 200


def console() -> Console:
    """The console of standard output."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def print_json(document: object) -> None:
    """Print a document of plain values, dataclasses and paths."""
    encoded = msgspec.json.encode(document, enc_hook=_path)
    print(msgspec.json.format(encoded, indent=2).decode())


def _path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"no JSON for {type(value)}")
