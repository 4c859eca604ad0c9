"""A dataset of one JSON Lines file: each line has a query, its documents in the order of the first stage, and which of
them are relevant."""

from array import array
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from sie_server.cli.eval.dataset import (
    Advance,
    Candidates,
    Counts,
    Dataset,
    Line,
    Lines,
    Query,
    decoded,
)
from sie_server.cli.rerank.request import titled
from sie_server.cli.streaming.lines import FaultError, open_input

# Name of the first stage.
ORDER_GIVEN = "the order given"


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document with an id; without one, its index is its id."""

    text: str
    id: str | None = None
    title: str | None = None

    @property
    def whole(self) -> str:
        """Title and text."""
        return titled(self.title, self.text)


class JudgedList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line. id: of the query; without one, the number of its line.

    relevant: indices of documents from 0, ids of documents, or their grades by id.
    """

    query: str
    documents: list[str | Listed]
    relevant: list[int | str] | dict[str, int] | None = None
    id: str | None = None


def read_lists(path: Path, *, depth: int, advance: Advance) -> Dataset:
    """The lines that have a judgment, with their first `depth` documents. Raises FaultError."""
    lines = Lines(path, advance)
    decoder = msgspec.json.Decoder(JudgedList)
    queries: list[Query] = []
    seen: dict[str, int] = {}
    unjudged = 0
    for line in lines:
        judged = decoded(lines, line, decoder)
        name = judged.id or str(line.number)
        if name in seen:
            raise lines.fault(line.number, f"the id '{name}' is that of line {seen[name]}.")
        seen[name] = line.number
        ids = _ids(lines, line, judged)
        grades = _grades(lines, line, judged, ids)
        if grades:
            ids = ids[:depth]
            at = array("q", [line.offset]) * len(ids)
            queries.append(Query(name, judged.query, Candidates(ids, at, None), grades))
        else:
            unjudged += 1
    if not queries:
        raise FaultError(f"{path} has no line with a judgment.")
    return Dataset(
        name=path.stem,
        queries=queries,
        counts=Counts(unjudged=unjudged),
        first_stage=ORDER_GIVEN,
        sources={path.name: lines.digest, "depth": str(depth)},
        texts=_reader(path),
    )


def _reader(path: Path) -> Callable[[Query], list[str]]:
    def texts(query: Query) -> list[str]:
        candidates = query.candidates
        if not candidates.ids:
            return []
        with open_input(path) as file:
            file.seek(candidates.offsets[0])
            line = file.readline()
        try:
            judged = msgspec.json.decode(line, type=JudgedList)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FaultError(f"{path} has changed meanwhile.") from error
        if judged.query != query.text or len(judged.documents) < len(candidates):
            raise FaultError(f"{path} has changed meanwhile.")
        documents = judged.documents[: len(candidates)]
        return [document if isinstance(document, str) else document.whole for document in documents]

    return texts


def _ids(lines: Lines, line: Line, judged: JudgedList) -> list[str]:
    if not judged.documents:
        raise lines.fault(line.number, "there are no documents - at `$.documents`.")
    ids: list[str] = []
    for index, document in enumerate(judged.documents):
        given = None if isinstance(document, str) else document.id
        ids.append(str(index) if given is None else given)
    if len(set(ids)) < len(ids):
        index = next(at for at, name in enumerate(ids) if name in ids[:at])
        raise lines.fault(line.number, f"the id '{ids[index]}' is there already - at `$.documents[{index}]`.")
    return ids


def _grades(lines: Lines, line: Line, judged: JudgedList, ids: list[str]) -> Mapping[str, int]:
    relevant = judged.relevant or []
    if isinstance(relevant, dict):
        for name in relevant:
            if name not in ids:
                raise lines.fault(line.number, f"no document has the id '{name}' - at `$.relevant`.")
        return relevant
    grades: dict[str, int] = {}
    for at, given in enumerate(relevant):
        where = f"at `$.relevant[{at}]`"
        if isinstance(given, int) and not 0 <= given < len(ids):
            raise lines.fault(line.number, f"there is no document {given}, only 0 to {len(ids) - 1} - {where}.")
        name = ids[given] if isinstance(given, int) else given
        if name not in ids:
            raise lines.fault(line.number, f"no document has the id '{name}' - {where}.")
        if name in grades:
            raise lines.fault(line.number, f"the document '{name}' is there already - {where}.")
        grades[name] = 1
    return grades
