"""Images and documents of every kind a caller may have, and what of them goes over the wire."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sdk_stand_ins import Server, packed

from sie_sdk.documents import convert_item_document, infer_document_format, to_document_bytes
from sie_sdk.images import convert_item_images, detect_image_format, to_jpeg_bytes
from sie_sdk.types import Item


def picture(image_format="PNG", mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, (2, 3), "red").save(file, image_format)
    return file.getvalue()


@pytest.fixture
def sent(connect):
    """What the server gets of an item."""
    server = Server(packed({"model": "m", "items": [{}]}))

    def send(item):
        connect(server).encode("m", item)
        return server.sent["items"][0]

    return send


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp", "gif"])
def test_formats_are_told_from_the_bytes(image_format):
    assert detect_image_format(picture(image_format)) == image_format


@pytest.mark.parametrize("data", [b"", b"RIFF....WAVE", b"\xff\xd8", b"%PDF"])
def test_what_is_no_image_has_no_format(data):
    assert detect_image_format(data) is None


def test_images_that_are_files_go_as_they_are(sent, tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    images = [b"A", str(tmp_path / "a.png"), tmp_path / "a.png", {"data": b"C", "format": "bmp"}, {"data": picture()}]
    item = Item(text="x", images=images)
    png = {"data": picture(), "format": "png"}
    assert sent(item)["images"] == [{"data": b"A"}, png, png, {"data": b"C", "format": "bmp"}, png]
    assert item["images"] is images
    assert images[0] == b"A"


@pytest.mark.parametrize(
    "image",
    [Image.new("RGBA", (2, 3), "red"), np.zeros((3, 2, 3), np.uint8), np.zeros((3, 2), np.uint8)],
    ids=["of Pillow", "pixels", "grey pixels"],
)
def test_other_images_go_as_jpeg(sent, image):
    [got] = sent(Item(images=[image]))["images"]
    assert got["format"] == detect_image_format(got["data"]) == "jpeg"
    assert Image.open(io.BytesIO(got["data"])).size == (2, 3)


def test_jpeg_of_files(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "a.jpg").write_bytes(picture("JPEG"))
    assert detect_image_format(to_jpeg_bytes(tmp_path / "a.png")) == "jpeg"
    assert to_jpeg_bytes(str(tmp_path / "a.jpg")) == picture("JPEG")
    assert to_jpeg_bytes(b"as it is") == b"as it is"
    assert len(to_jpeg_bytes(Image.effect_noise((64, 64), 90), quality=10)) < len(
        to_jpeg_bytes(Image.effect_noise((64, 64), 90))
    )
    with pytest.raises(FileNotFoundError):
        to_jpeg_bytes(tmp_path / "none.png")
    with pytest.raises(TypeError, match="got int"):
        to_jpeg_bytes(7)


def test_documents(sent, tmp_path):
    (tmp_path / "a.PDF").write_bytes(b"%PDF")
    path = tmp_path / "a.PDF"
    pdf = {"data": b"%PDF", "format": "pdf"}
    assert sent(Item(document=path))["document"] == sent(Item(document=str(path)))["document"] == pdf
    assert sent(Item(document=b"x"))["document"] == {"data": b"x", "format": None}
    assert sent(Item(document={"data": b"x", "format": "md"}))["document"] == {"data": b"x", "format": "md"}
    assert sent(Item(document={"data": path, "format": None}))["document"] == {"data": b"%PDF", "format": None}


def test_documents_by_themselves(tmp_path):
    (tmp_path / "notes").write_bytes(b"n")
    assert to_document_bytes(tmp_path / "notes") == (b"n", None)
    assert [infer_document_format(name) for name in ("a.markdown", Path("b.xhtml"), "c.exe")] == ["md", "html", None]
    with pytest.raises(FileNotFoundError):
        to_document_bytes(tmp_path / "none.pdf")
    with pytest.raises(TypeError, match="got int"):
        to_document_bytes(7)


@pytest.mark.parametrize("item", [{"text": "x"}, {"images": []}, {"images": [7]}, {"document": 7}, {"document": None}])
def test_all_else_is_left_to_the_server(item):
    assert convert_item_document(convert_item_images(item)) == item
