"""Splits a large input into chunks of consecutive items, one per request."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from sie_sdk._core import codec
from sie_sdk.types import Item

Items = TypeVar("Items")

# This project's server takes 10,000 items and 34 MiB per request, other SIE servers 1,000 items. Chunks are smaller, so
# that neither side holds much in memory, a response arrives long before the read timeout, and the chunks in flight fit
# a server's queue. Responses with vectors are large, so their chunks are small. Chunks to score are large, because the
# server computes a query once per request.
VECTOR_ITEMS, VECTOR_BYTES = 256, 2**20
SCORE_ITEMS, SCORE_BYTES = 1000, 2**24
_MEDIA = frozenset({"images", "audio", "video", "document"})


def as_item(item: Item | str) -> Item:
    """Returns the item of a text; returns anything else as it is."""
    return Item(text=item) if isinstance(item, str) else item


def listed(items: Iterable[Item | str]) -> list[Item | str]:
    """Returns the items as a list; raises TypeError like `checked`."""
    return list(checked(items))


def checked(items: Items) -> Items:
    """Returns the items; raises TypeError for a single item or text, which would be sent piece by piece."""
    if isinstance(items, str | bytes | Mapping):
        raise TypeError(f"items must be a list of Items or texts, got {type(items).__name__}")
    return items


def check_text_only(item: Any, path: str) -> None:
    """Raises ValueError, naming the field, for an item with an image, audio, a video or a document."""
    if not isinstance(item, Mapping) or _MEDIA.isdisjoint(item):
        return
    for name in _MEDIA.intersection(item):
        value = item[name]
        if value is not None and not (isinstance(value, list | tuple) and not value):
            raise ValueError(f"Field '{path}.{name}' is not supported: models read text only")


@dataclass(slots=True)
class Chunk:
    """Consecutive items for one request.

    `start` is the index of the first one in the whole input, `packed` holds each item as MessagePack, and `max_items`
    and `max_bytes` limit the chunk.
    """

    start: int
    max_items: int
    max_bytes: int
    items: list[Item] = field(default_factory=list)
    packed: list[msgspec.Raw] = field(default_factory=list)
    size: int = 0

    @property
    def end(self) -> int:
        """Index of the first item after this chunk."""
        return self.start + len(self.items)

    def fits(self, packed: bytes) -> bool:
        """Returns whether one more item fits. An item that is too large for any chunk gets one to itself."""
        return not self.items or (len(self.items) < self.max_items and self.size + len(packed) <= self.max_bytes)

    def append(self, item: Item, packed: bytes) -> None:
        self.items.append(item)
        self.packed.append(msgspec.Raw(packed))
        self.size += len(packed)


class Chunker:
    """Splits a stream of items into chunks, holding one chunk at a time.

    A server whose results have ids names the N-th item of a request `item-N` if it has none. With `has_ids`, items
    without an id in every chunk but the first are sent with the id that they would get in a single request.
    """

    def __init__(self, *, has_ids: bool) -> None:
        self._has_ids = has_ids
        self._chunk = self._empty(0)

    def add(self, given: Item | str) -> Chunk | None:
        """Adds the next item, or the text of one; returns the chunk before it if the item does not fit there.

        Raises ValueError, naming the item by its index in the whole input, if a text is not valid Unicode or the item
        holds anything but text.
        """
        item = as_item(given)
        packed, full = self._packed(item), None
        if not self._chunk.fits(packed):
            full, self._chunk = self._chunk, self._empty(self._chunk.end)
            packed = self._packed(item)
        self._chunk.append(item, packed)
        return full

    def last(self) -> Chunk:
        """Returns the last chunk after all items were added; it is empty only if there were none."""
        return self._chunk

    def _empty(self, start: int) -> Chunk:
        return Chunk(start, SCORE_ITEMS, SCORE_BYTES) if self._has_ids else Chunk(start, VECTOR_ITEMS, VECTOR_BYTES)

    def _packed(self, item: Item) -> bytes:
        body: Any = item
        path = f"items[{self._chunk.end}]"
        check_text_only(body, path)
        if self._has_ids and self._chunk.start and isinstance(body, Mapping) and body.get("id") is None:
            body = {**body, "id": f"item-{self._chunk.end}"}
        return codec.encode(body, path)
