"""What a picture's file says of itself, without decoding it."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mynth_dagster.errors import DownloadError
from mynth_dagster.tables.image_header import (
    ImageHeader,
    header_of,
    media_type_of,
    read_header,
)

KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}


def picture(kind: str, size=(37, 23), mode="RGB", **options) -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, "red").save(buffer, KINDS[kind], **options)
    return buffer.getvalue()


def look(content: bytes) -> ImageHeader:
    return read_header(BytesIO(content))


def problem(content: bytes) -> str:
    with pytest.raises(DownloadError) as caught:
        look(content)
    return caught.value.code


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("png", {}),
        ("png", {"mode": "RGBA"}),
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("jpg", {"exif": b"Exif\0\0" + bytes(60_000)}),
        ("jpg", {"mode": "L"}),
        ("webp", {}),
        ("webp", {"lossless": True}),
        ("webp", {"mode": "RGBA"}),
        ("webp", {"exif": b"Exif\0\0" + bytes(500)}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (37, 23), (5000, 3)])
def test_each_kind_tells_its_dimensions(kind, options, size):
    """Plain, extended, lossless, progressive, with long comments before the first frame."""
    assert look(picture(kind, size, **options)) == ImageHeader(kind, *size)


def test_a_filled_marker_is_read_over():
    """JPEG allows bytes of filling before a marker."""
    content = picture("jpg")

    assert look(content[:2] + b"\xff\xff" + content[2:]) == ImageHeader("jpg", 37, 23)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_its_end_is_truncated(kind):
    """Whatever length was announced."""
    noise = Image.effect_noise((64, 64), 80)
    buffer = BytesIO()
    noise.save(buffer, KINDS[kind])
    content = buffer.getvalue()

    assert problem(content[: len(content) // 2]) == "truncated"
    assert look(content + b"trailing").format == kind


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>502 Bad Gateway</body></html>",
        b"GIF89a" + bytes(100),
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + bytes(24),
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"RIFF\x10\0\0\0WEBPVP9 " + bytes(20),
        b"RIFF\x10\0\0\0WEBPVP8L" + bytes(20),
        b"\x00\x00\x00\x20ftypavif" + bytes(50),
    ],
)
def test_all_else_is_no_picture(content):
    """By its first bytes, and by a header that tells no dimensions."""
    assert problem(content) == "wrong_type"


def test_a_pixel_bomb_is_recognised_by_its_header():
    """Nothing is decoded, and no room is made for what it claims."""
    claim = struct.pack(">II", 60_000, 60_000)
    content = picture("png")

    assert look(content[:16] + claim + content[24:]).n_pixels == 3_600_000_000


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_no_bytes_do_harm(content, head):
    """Any bytes are a picture, or are refused in our own words."""
    try:
        header = look(head + content)
    except DownloadError as error:
        assert error.code in ("wrong_type", "truncated")  # noqa: PT017 - or it is a picture
    else:
        assert header.n_pixels > 0


def drawn(form: str, size: tuple[int, int] = (30, 20)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, "red").save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("form", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")]
)
def test_the_accepted_formats_are_recognised_by_their_bytes(form, media_type):
    """JPEG, PNG and WebP, with their size in pixels."""
    header = header_of(drawn(form))

    assert header is not None
    assert (header.media_type, header.width, header.height) == (media_type, 30, 20)
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
def test_anything_else_has_no_header(content):
    """Other formats, and headers that end too soon."""
    assert header_of(content) is None


def test_an_input_of_too_many_pixels_has_no_header():
    """A few bytes may claim to be gigabytes of pixels; nothing is decoded to find out."""
    header = bytearray(drawn("PNG"))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    assert header_of(bytes(header)) is None
