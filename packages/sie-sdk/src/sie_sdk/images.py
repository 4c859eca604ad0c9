"""Images as requests carry them: the bytes of a file, and the name of its format."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sie_sdk.types import Item, MediaInput, Picture

ImageLike: TypeAlias = bytes | str | os.PathLike[str] | Picture | NDArray[np.generic]
ImageFormat = Literal["jpeg", "png", "webp", "gif"]

JPEG_QUALITY = 95


def detect_image_format(data: bytes) -> ImageFormat | None:
    r"""The format that the first bytes of a file tell; None for any other.

    >>> detect_image_format(b"\x89PNG\r\n\x1a\n...")
    'png'
    """
    match data[:4]:
        case b"\x89PNG":
            return "png"
        case b"GIF8":
            return "gif"
        case b"RIFF" if data[8:12] == b"WEBP":
            return "webp"
        case start if start.startswith(b"\xff\xd8\xff"):
            return "jpeg"
    return None


def to_jpeg_bytes(image: ImageLike, *, quality: int = JPEG_QUALITY) -> bytes:
    """An image as JPEG: one of Pillow, pixels `[height, width]` or `[height, width, 3]` (uint8), or a file.

    Bytes are taken for a file that is encoded already, and come back as they are; so does what a JPEG file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: Pixels, and files of other formats than JPEG, need Pillow.
        TypeError: It is none of these.
    """
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        data = Path(image).read_bytes()
        return data if detect_image_format(data) == "jpeg" else _jpeg(_opened(data), quality)
    if isinstance(image, np.ndarray):
        from PIL import Image

        return _jpeg(Image.fromarray(image), quality)
    if isinstance(image, Picture):
        return _jpeg(image, quality)
    raise TypeError(f"an image is bytes, a path, an array or one of Pillow, got {type(image).__name__}")


def wire_image(image: Any) -> Any:
    """An image as a request carries it: files as they are, all else as JPEG. What is none is left for the server."""
    if isinstance(image, str | os.PathLike):
        image = Path(image).read_bytes()
    if isinstance(image, bytes | bytearray):
        return _media(bytes(image))
    if isinstance(image, np.ndarray | Picture):
        return {"data": to_jpeg_bytes(image), "format": "jpeg"}
    if isinstance(image, Mapping) and isinstance(image.get("data"), bytes | bytearray | str | os.PathLike):
        return {**wire_image(image["data"]), **{key: image[key] for key in image if key != "data"}}
    return image


def convert_item_images(item: Item) -> Any:
    """The item, with its images as a request carries them."""
    images = item.get("images")
    return {**item, "images": [wire_image(image) for image in images]} if images else item


def _media(data: bytes) -> MediaInput:
    known = detect_image_format(data)
    return {"data": data, "format": known} if known else {"data": data}


def _opened(data: bytes) -> Picture:
    from PIL import Image

    return Image.open(io.BytesIO(data))


def _jpeg(image: Picture, quality: int) -> bytes:
    jpeg = io.BytesIO()
    image.convert("RGB").save(jpeg, "JPEG", quality=quality)
    return jpeg.getvalue()
