"""The texts in the lines of a file, of which each is a text, or a document in JSON."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from sie_server.cli.rerank.request import read_document
from sie_server.cli.streaming.lines import FaultError, Line

# How a file is read, and whether its lines are JSON by that; None: as the first of them tells.
Input = Literal["auto", "text", "jsonl"]
AS_JSON: Mapping[Input, bool | None] = {"auto": None, "text": False, "jsonl": True}


class Texts:
    """Reads lines. as_json: whether they are JSON, or text; None: as the first of them tells."""

    def __init__(self, fault: Callable[[Line, str], FaultError], *, as_json: bool | None) -> None:
        self._fault, self._as_json = fault, as_json
        self._told_by_the_first = as_json is None

    def see(self, line: Line) -> None:
        """Note a line; called with each, in order, before it is read."""
        if self._as_json is None:
            self._as_json = _is_object(line)

    def read(self, line: Line) -> tuple[str, dict[str, Any]]:
        """The text in a line, and all of its fields if it is JSON.

        Raises:
            FaultError: it has no text, or it is a JSON object while the first line was text.
        """
        if self._as_json:
            return read_document(line, self._fault)
        if self._told_by_the_first and _is_object(line) and _decodes(line):
            raise self._fault(
                line,
                "it is a JSON object, and the first line is text. If all lines are text, give --input text; if they "
                "are JSON, --input jsonl.",
            )
        try:
            return line.content.decode(), {}
        except UnicodeDecodeError as error:
            raise self._fault(line, f"it is not UTF-8: {error}.") from None


def _is_object(line: Line) -> bool:
    return line.content.lstrip().startswith(b"{")


def _decodes(line: Line) -> bool:
    try:
        msgspec.json.decode(line.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
