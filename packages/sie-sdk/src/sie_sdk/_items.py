"""From the items a caller has to the items the wire carries."""

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sie_sdk.types import Item, Picture

Items = TypeVar("Items")

_JPEG_QUALITY = 95


def listed(items: Iterable[Item]) -> list[Item]:
    return list(checked(items))


def checked(items: Items) -> Items:
    """The items. A lone item or text is refused: iterating over it would send its keys or characters."""
    if isinstance(items, str | bytes | Mapping):
        raise TypeError(f"items must be a list of Items, got a {type(items).__name__}")
    return items


def wire_item(item: Item) -> Any:
    """The item, its images as bytes. What is no item at all is left for the server to name."""
    if not isinstance(item, Mapping) or not (images := item.get("images")):
        return item
    return {**item, "images": [_wire_image(image) for image in images]}


def _wire_image(image: Any) -> Any:
    if isinstance(image, bytes | bytearray):
        return {"data": bytes(image)}
    if isinstance(image, str | os.PathLike):
        return {"data": Path(image).read_bytes()}
    if isinstance(image, Picture):
        jpeg = io.BytesIO()
        image.convert("RGB").save(jpeg, "JPEG", quality=_JPEG_QUALITY)
        return {"data": jpeg.getvalue(), "format": "jpeg"}
    return image
