"""Reference of the `sie-server` command, as its `--help` has it."""

import re

from sie_server.cli.main import DOCUMENTED, app, document

# A default that only says that there is none.
_EMPTY = re.compile(r" \*\[default: (?:\(\)|\"\"|False)\]\*")
# A usage of our own has the name of the command, which the generator puts in front of it once more.
_TWICE = re.compile(r"^(sie-server (\w+)) \2(?= )", re.MULTILINE)
# A pattern of file names, which Markdown would read as the start of an emphasis.
_PATTERN = re.compile(r"(?<!\S)\*\.\w+")


def parts() -> dict[str, str]:
    """The generated part of docs/reference/cli.md."""
    for command in DOCUMENTED:
        document(command)
    text = app.generate_docs(output_format="markdown", include_hidden=False)
    text = _PATTERN.sub(r"`\g<0>`", _TWICE.sub(r"\1", _EMPTY.sub("", text)))
    _, _, commands = text.partition("## Table of Contents")
    return {"commands": commands[commands.index("## sie-server ") :].rstrip()}
