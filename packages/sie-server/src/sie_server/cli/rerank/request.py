"""A query with its documents, as lines of JSON have them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from sie_server.cli.streaming.lines import FaultError, Line

# Fields that decide about the scores in requests to a server, but not here.
_REFUSED = {"instruction": "--instruction", "options": "--long-documents"}
_NAMES = ("id", "_id", "query_id", "qid")
_MUST = "must be a string, or an object with a string in 'text'"


class Request(NamedTuple):
    """A query and its documents. name: id of the query, if it has one. ids: of the documents that have one.

    fields: the line's own, as they were written.
    """

    name: str | None
    query: str
    texts: list[str]
    ids: list[str | None]
    fields: Mapping[str, Raw]

    @property
    def size(self) -> int:
        """Number of characters."""
        return len(self.query) * len(self.texts) + sum(map(len, self.texts))


def read_request(line: Line, fault: Callable[[Line, str], FaultError]) -> Request:
    """The request in a line `{"query": …, "documents": […], …}`.

    Raises:
        FaultError: it has none; the message names the field.
    """
    try:
        fields = msgspec.json.decode(line.content, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise fault(line, f"it is not a JSON object: {error}.") from None
    for name in ("query", "documents"):
        if name not in fields:
            raise fault(line, f"field '{name}' is missing.")
    for name, flag in _REFUSED.items():
        if name in fields and bytes(fields[name]) != b"null":
            raise fault(line, f"field '{name}' has no effect here; use {flag}, which holds for all lines.")
    query, documents = (_decoded(line, fault, name, fields[name]) for name in ("query", "documents"))
    text = query.get("text") if isinstance(query, dict) else query
    if not isinstance(text, str):
        raise fault(line, f"field 'query' {_MUST}.")
    if not text.strip():
        raise fault(line, "field 'query' is empty.")
    if not isinstance(documents, list):
        raise fault(line, "field 'documents' must be a list.")
    named = {**(query if isinstance(query, dict) else {}), **_identified(line, fault, fields)}
    texts, ids = [], []
    for index, document in enumerate(documents):
        content = document.get("text") if isinstance(document, dict) else document
        if not isinstance(content, str):
            raise fault(line, f"field 'documents[{index}]' {_MUST}.")
        title = document.get("title") if isinstance(document, dict) else None
        if title is not None and not isinstance(title, str):
            raise fault(line, f"field 'documents[{index}].title' must be a string.")
        texts.append(titled(title, content))
        ids.append(identity(document) if isinstance(document, dict) else None)
    return Request(identity(named), text, texts, ids, fields)


def read_document(line: Line, fault: Callable[[Line, str], FaultError]) -> tuple[str, dict[str, Any]]:
    """The titled text, and all fields, of a document in a line `{"text": …, "id": …, …}`, or in a string of JSON.

    Raises:
        FaultError: it has none.
    """
    try:
        document = msgspec.json.decode(line.content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise fault(line, f"it is not JSON: {error}.") from None
    fields = {"text": document} if isinstance(document, str) else document
    if not isinstance(fields, dict):
        raise fault(line, f"it {_MUST}.")
    if not isinstance(fields.get("text"), str):
        raise fault(line, "field 'text' is missing." if "text" not in fields else "field 'text' must be a string.")
    title = fields.get("title")
    if title is not None and not isinstance(title, str):
        raise fault(line, "field 'title' must be a string.")
    return titled(title, fields["text"]), fields


def titled(title: str | None, text: str) -> str:
    """The title, a space, and the text, as in BEIR; the text alone if there is no title."""
    return f"{title} {text}".strip() if title else text


def identity(fields: Mapping[str, Any]) -> str | None:
    """The id among the fields of a query or a document."""
    found = next((fields[name] for name in _NAMES if fields.get(name) is not None), None)
    return str(found) if isinstance(found, str | int) else None


def _identified(line: Line, fault: Callable[[Line, str], FaultError], fields: Mapping[str, Raw]) -> dict[str, Any]:
    return {name: _decoded(line, fault, name, fields[name]) for name in _NAMES if name in fields}


def _decoded(line: Line, fault: Callable[[Line, str], FaultError], name: str, raw: Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise fault(line, f"field '{name}' is invalid: {error}.") from None
