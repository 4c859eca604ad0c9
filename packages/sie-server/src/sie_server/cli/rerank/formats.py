"""The forms in which rankings are written."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import msgspec
from msgspec import Raw
from rich.console import Console
from rich.text import Text

from sie_server.cli.rerank.request import Request

Format = Literal["text", "tsv", "jsonl", "trec"]
# The last column of a TSV may hold anything but the ends of columns and lines.
_ESCAPES = str.maketrans(
    {"\t": " ", "\n": " ", "\r": " ", "\v": " ", "\f": " ", "\x85": " ", "\u2028": " ", "\u2029": " "}
)
_SCORE_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Form:
    """The form of rankings. top: number of documents; None: all. tag: name of a TREC run, without spaces. width,
    color: of lines for people."""

    format: Format
    top: int | None
    tag: str
    width: int
    color: bool = False

    def ranking(self, request: Request, scores: Sequence[float], number: int) -> bytes:
        """The documents of a request, best first; of equal scores, the first in the request. number: of its line."""
        order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[: self.top]
        if self.format == "jsonl":
            return _json_line(request, scores, order)
        name = request.name or str(number)
        if self.format == "text":
            return self.heading(request.query) + b"".join(
                self.document(rank, scores[index], request.texts[index], {}, index, name)
                for rank, index in enumerate(order, 1)
            )
        lines = []
        for rank, index in enumerate(order, 1):
            if self.format == "trec":
                lines.append(self.trec(name, request.ids[index] or str(index), rank, scores[index]))
            else:
                lines.append(f"{flat(name)}\t{rank}\t{scores[index]!r}\t{flat(request.texts[index])}\n".encode())
        return b"".join(lines)

    def document(self, rank: int, score: float, text: str, fields: dict[str, Any], index: int, name: str) -> bytes:
        """One of the documents of a single query. fields: of its line; index: among all. name: its id."""
        if self.format == "jsonl":
            return (
                msgspec.json.encode({"rank": rank, "score": score, "index": index, **(fields or {"text": text})})
                + b"\n"
            )
        if self.format == "trec":
            return self.trec("1", name, rank, score)
        if self.format == "tsv":
            return f"{rank}\t{score!r}\t{flat(text)}\n".encode()
        line = Text.assemble((f"{rank:>4} ", "cyan"), (f"{score:>10.{_SCORE_DIGITS}f}  ", "green"), flat(text))
        return self._rendered(line)

    def heading(self, query: str) -> bytes:
        """The query, above its ranking for people."""
        return self._rendered(Text(flat(query), style="bold")) if self.format == "text" else b""

    def trec(self, query: str, document: str, rank: int, score: float) -> bytes:
        """A line of a TREC run."""
        return f"{query} Q0 {document} {rank} {score!r} {self.tag}\n".encode()

    def _rendered(self, line: Text) -> bytes:
        out = StringIO()
        console = Console(
            file=out, width=self.width, force_terminal=self.color, no_color=not self.color, highlight=False
        )
        console.print(line, no_wrap=True, overflow="ellipsis")
        return out.getvalue().encode()


def flat(text: str) -> str:
    """The text in one line and one column."""
    return text.translate(_ESCAPES)


def _json_line(request: Request, scores: Sequence[float], order: Sequence[int]) -> bytes:
    """The line of the request with the field `ranking`: index, score, and id of each document."""
    entries = []
    for index in order:
        entry: dict[str, Any] = {"index": index, "score": scores[index]}
        if (name := request.ids[index]) is not None:
            entry["id"] = name
        entries.append(entry)
    return msgspec.json.encode({**request.fields, "ranking": Raw(msgspec.json.encode(entries))}) + b"\n"
