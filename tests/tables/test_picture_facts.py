"""What a picture's first bytes tell, whatever its name says."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from mynth_dagster.tables.picture_facts import PictureFacts, media_type_of, read_picture_facts


def drawn(form: str, size: tuple[int, int] = (30, 20)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, "red").save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("form", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")]
)
def test_the_accepted_formats_are_told_by_their_bytes(form, media_type):
    """JPEG, PNG and WebP, with their size in pixels."""
    assert read_picture_facts(drawn(form)) == PictureFacts(media_type, 30, 20)
    assert media_type_of(drawn(form)) == media_type


@pytest.mark.parametrize(
    "content",
    [
        drawn("GIF"),
        drawn("BMP"),
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        drawn("PNG")[:20],
        b"\xff\xd8\xff\xe0",
        b"WEBP" + drawn("WEBP"),
    ],
    ids=["gif", "bmp", "nothing", "svg", "wave", "cut png", "cut jpeg", "shifted webp"],
)
def test_anything_else_has_no_facts(content):
    """Other formats, and headers that end too soon."""
    assert read_picture_facts(content) is None


def test_a_picture_of_too_many_pixels_has_no_facts():
    """A few bytes may claim to be gigabytes of pixels; nothing is decoded to find out."""
    header = bytearray(drawn("PNG"))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    assert read_picture_facts(bytes(header)) is None
