"""A large input, cut into parts of consecutive items, each of which one request carries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from sie_sdk._core import codec
from sie_sdk.types import Item

Items = TypeVar("Items")

# A server takes 10,000 items and 34 MiB in one request, other SIE servers 1,000 items. Parts are smaller: neither side
# has to hold much, an answer comes long before a read timeout, and the few that are under way fit a server's queue.
# Answers with vectors are large, those with scores are not; and the candidates of a query belong together, as the
# server computes a query once per request.
PART_ITEMS, PART_BYTES = 256, 2**20
NAMED_ITEMS, NAMED_BYTES = 1000, 2**24
_MEDIA = ("images", "audio", "video", "document")


def listed(items: Iterable[Item]) -> list[Item]:
    """Returns a list of the items; raises TypeError as `checked`."""
    return list(checked(items))


def checked(items: Items) -> Items:
    """Returns the items; raises TypeError for a lone item or text, which would be sent key by key."""
    if isinstance(items, str | bytes | Mapping):
        raise TypeError(f"items must be a list of Items, got a {type(items).__name__}")
    return items


def check_text_only(item: Any, path: str) -> None:
    """Raises ValueError for an item with an image or another medium, which no model here reads; names the field."""
    if not isinstance(item, Mapping):
        return
    for name in _MEDIA:
        value = item.get(name)
        if value is not None and not (isinstance(value, list | tuple) and not value):
            raise ValueError(f"{path}.{name} is not supported: models read the text of an item")


@dataclass(slots=True)
class Part:
    """Some of the items: `start` is the index of the first in the whole input, `packed` each as MessagePack.

    At most so many items and bytes.
    """

    start: int
    most_items: int
    most_bytes: int
    items: list[Item] = field(default_factory=list)
    packed: list[msgspec.Raw] = field(default_factory=list)
    size: int = 0

    @property
    def end(self) -> int:
        """The index of the first item after this part."""
        return self.start + len(self.items)

    def takes(self, packed: bytes) -> bool:
        """Whether there is room for one item more. An item that is too large for any part gets one to itself."""
        return not self.items or (len(self.items) < self.most_items and self.size + len(packed) <= self.most_bytes)

    def append(self, item: Item, packed: bytes) -> None:
        self.items.append(item)
        self.packed.append(msgspec.Raw(packed))
        self.size += len(packed)


class Cutter:
    """Cuts a stream of items into parts; holds one part at a time.

    A server that answers with ids calls the N-th item of a request `item-N` if it has none. With `named`, the items
    without an id in all parts but the first are sent with the one they would have had in a single request.
    """

    def __init__(self, *, named: bool) -> None:
        self._named = named
        self._part = self._empty(0)

    def add(self, item: Item) -> Part | None:
        """Takes the next item; the part before it, if that has no room for it.

        Raises ValueError, naming the item by its index in the whole input, if a text in it is not valid Unicode.
        """
        packed, full = self._packed(item), None
        if not self._part.takes(packed):
            full, self._part = self._part, self._empty(self._part.end)
            packed = self._packed(item)
        self._part.append(item, packed)
        return full

    def rest(self) -> Part:
        """The last part, once all items were added; empty only if there were none."""
        return self._part

    def _empty(self, start: int) -> Part:
        return Part(start, NAMED_ITEMS, NAMED_BYTES) if self._named else Part(start, PART_ITEMS, PART_BYTES)

    def _packed(self, item: Item) -> bytes:
        index = self._part.end
        body: Any = item
        check_text_only(item, f"items[{index}]")
        if self._named and self._part.start and isinstance(body, Mapping) and body.get("id") is None:
            body = {**body, "id": f"item-{index}"}
        return codec.encode(body, f"items[{index}]")
