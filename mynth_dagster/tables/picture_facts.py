"""What the first bytes of a picture tell: its type and its size, without decoding it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO

from mynth_dagster.limits import INPUT_PIXELS_MAX

_MAGIC: tuple[tuple[bytes, int, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "PNG", "image/png"),
    (b"\xff\xd8\xff", 0, "JPEG", "image/jpeg"),
    (b"WEBP", 8, "WEBP", "image/webp"),
)


@dataclass(frozen=True)
class PictureFacts:
    """A picture's media type, by its magic bytes, and its width and height in pixels."""

    media_type: str
    width: int
    height: int


def media_type_of(content: bytes) -> str | None:
    """The media type of JPEG, PNG or WebP bytes; None for anything else."""
    found = _kind_of(content)
    return found[1] if found else None


def read_picture_facts(content: bytes) -> PictureFacts | None:
    """
    The facts in a picture's header.

    None for what is no JPEG, PNG or WebP by its magic bytes, whose header is broken,
    or which has more than `INPUT_PIXELS_MAX` pixels.
    """
    from PIL import Image  # noqa: PLC0415 - slow to import, and few tables name files

    kind = _kind_of(content)
    if kind is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(BytesIO(content), formats=(kind[0],))
        width, height = picture.size
    except Exception:  # noqa: BLE001 - a broken header fails in as many ways as there are formats
        return None
    is_sound = 0 < width * height <= INPUT_PIXELS_MAX
    return PictureFacts(kind[1], width, height) if is_sound else None


def _kind_of(content: bytes) -> tuple[str, str] | None:
    for magic, offset, name, media_type in _MAGIC:
        if content[offset : offset + len(magic)] == magic:
            is_riff = name != "WEBP" or content.startswith(b"RIFF")
            return (name, media_type) if is_riff else None
    return None
