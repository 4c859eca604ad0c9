"""Documents as requests carry them: the bytes of a file, and the name of its format."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from sie_sdk.types import Item

DocumentLike: TypeAlias = bytes | str | os.PathLike[str]

_OTHER_NAMES = {"htm": "html", "xhtml": "html", "markdown": "md"}
_FORMATS = {"pdf", "docx", "doc", "html", "md", "txt", "rtf", "odt", "pptx", "xlsx", "csv"}


def infer_document_format(source: str | os.PathLike[str]) -> str | None:
    """The format that a file's name tells; None if it tells none.

    >>> infer_document_format("Minutes.HTM"), infer_document_format("minutes")
    ('html', None)
    """
    suffix = Path(source).suffix.lower().removeprefix(".")
    name = _OTHER_NAMES.get(suffix, suffix)
    return name if name in _FORMATS else None


def to_document_bytes(document: DocumentLike) -> tuple[bytes, str | None]:
    """A document's bytes, and its format where it is a file whose name tells one.

    Raises FileNotFoundError if there is no such file, TypeError for what is neither bytes nor a path.
    """
    if isinstance(document, bytes | bytearray):
        return bytes(document), None
    if isinstance(document, str | os.PathLike):
        return Path(document).read_bytes(), infer_document_format(document)
    raise TypeError(f"a document is bytes or a path, got {type(document).__name__}")


def convert_item_document(item: Item) -> Any:
    """The item, with its document as a request carries it. A format that is given is kept, None too."""
    document: Any = item.get("document")
    if document is None:
        return item
    given = dict(document) if isinstance(document, Mapping) else {"data": document}
    if not isinstance(given.get("data"), bytes | bytearray | str | os.PathLike):
        return item
    data, known = to_document_bytes(given["data"])
    return {**item, "document": {"format": known, **given, "data": data}}
