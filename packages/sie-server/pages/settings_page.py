"""Table of the server's settings."""

import re
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from cyclopts import Parameter
from docstring_parser import parse

from sie_server.settings import Settings

_MIB = 2**20


def parts() -> dict[str, str]:
    """The generated part of docs/reference/settings.md."""
    hints = get_type_hints(Settings, include_extras=True)
    meanings = {each.arg_name: each.description or "" for each in parse(Settings.__doc__ or "").params}
    rows = [
        f"| `--{field.name.replace('_', '-')}` | {_variable(hints[field.name])} | {_default(field.default)} "
        f"| {_cell(meanings[field.name])} |"
        for field in fields(Settings)
    ]
    return {"settings": "\n".join(["| Flag | Environment | Default | |", "|---|---|---|---|", *rows])}


def _variable(hint: Any) -> str:
    assert get_origin(hint) is Annotated
    [parameter] = [each for each in get_args(hint) if isinstance(each, Parameter)]
    [variable] = parameter.env_var or ()
    return f"`{variable}`"


def _default(value: Any) -> str:
    if value is MISSING or value in ("", (), None):
        return "–"
    if isinstance(value, int) and value and value % _MIB == 0:
        return f"{value // _MIB} MiB"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _cell(text: str) -> str:
    """A meaning in one line, where neither a pipe nor an asterisk is Markdown."""
    return re.sub(r"([|*])", r"\\\1", " ".join(text.split()))
