"""From the items a caller has to the items the wire carries."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sie_sdk.types import Item


def listed(items: Sequence[Item]) -> list[Item]:
    """A list of items. A lone item or text is refused: iterating over it would send its keys or characters."""
    if isinstance(items, str | bytes | Mapping):
        raise TypeError(f"items must be a list of Items, got a {type(items).__name__}")
    return list(items)


def wire_items(items: Sequence[Item]) -> list[Any]:
    return [wire_item(item) for item in items]


def wire_item(item: Item) -> Any:
    """The item, its images as bytes. What is no item at all is left for the server to name."""
    if not isinstance(item, Mapping) or not item.get("images"):
        return item
    return {**item, "images": [_wire_image(image) for image in item["images"]]}


def _wire_image(image: Any) -> Any:
    if isinstance(image, bytes | bytearray):
        return {"data": bytes(image)}
    if isinstance(image, str | os.PathLike):
        return {"data": Path(image).read_bytes()}
    return image
