"""An embedding API, apart from its fields: its errors, its defaults, and the writer of its vectors."""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.wanted import Wanted
from sie_server.options import Output


@dataclass(slots=True)
class Embedded:
    """Vectors to write. field: of the texts. vectors: of each text, by output. id: of the request."""

    want: Wanted
    field: str
    texts: Items[Any]
    model: str
    vectors: list[dict[str, Any]]
    tokens: int
    id: str
    created: int
    warnings: list[str]

    def outputs(self) -> Iterator[tuple[int, Any]]:
        """The index and the output of each text, which is freed once the next one is asked for."""
        for index, outputs in enumerate(self.vectors):
            yield index, outputs[self.want.output]
            self.vectors[index] = {}


@dataclass(frozen=True, slots=True)
class EmbedDialect:
    """An embedding API.

    name: of its prefix. write: its writer. body: type of its answers. texts: field of its texts. output: what it
    computes, unless a request chooses one of `tasks`. several: an answer may have several forms of a vector. bare: an
    answer is the list alone. plain_errors: errors have TEI's form. busy: HTTP status of a full queue.
    """

    name: str
    write: Callable[[Embedded], Written]
    body: type[Struct]
    texts: str = "input"
    output: Output = "dense"
    tasks: Mapping[str, Output] = field(default_factory=dict)
    several: bool = False
    bare: bool = False
    plain_errors: bool = False
    busy: int = 503
