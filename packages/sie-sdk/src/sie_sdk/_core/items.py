"""From the items a caller has to the items the wire carries."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from sie_sdk.documents import convert_item_document
from sie_sdk.images import convert_item_images
from sie_sdk.types import Item

Items = TypeVar("Items")


def listed(items: Iterable[Item]) -> list[Item]:
    return list(checked(items))


def checked(items: Items) -> Items:
    """The items. A lone item or text is refused: iterating over it would send its keys or characters."""
    if isinstance(items, str | bytes | Mapping):
        raise TypeError(f"items must be a list of Items, got a {type(items).__name__}")
    return items


def wire_item(item: Item) -> Any:
    """The item, its images and its document as bytes. What is no item at all is left for the server to name."""
    if not isinstance(item, Mapping) or not ("images" in item or "document" in item):
        return item
    return convert_item_document(convert_item_images(item))
