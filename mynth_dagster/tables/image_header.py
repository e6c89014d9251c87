"""
What a picture's file says of itself: its kind, its dimensions, whether its end is there.

Read off its first and last bytes, without decoding: a decoder would make room for whatever
dimensions a hostile file claims.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from mynth_dagster.errors import DownloadError
from mynth_dagster.limits import INPUT_PIXELS_MAX, KIB

_HEAD_BYTES = 32
_TAIL_BYTES = 64 * KIB
_MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff"}
_SEGMENTS_MAX = 2000
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
_ENDS = {"png": b"IEND\xaeB`\x82", "jpg": b"\xff\xd9"}


@dataclass(frozen=True)
class ImageHeader:
    """`format` is `png`, `jpg` or `webp`; dimensions are in pixels, above 0."""

    format: str
    width: int
    height: int

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[self.format]

    @property
    def n_pixels(self) -> int:
        return self.width * self.height


def read_header(file: BinaryIO) -> ImageHeader:
    """
    The facts of a whole file, from its beginning.

    Raises:
        DownloadError: `wrong_type`: no PNG, JPEG or WebP; `truncated`: its end is missing.
    """
    head = _head_of(file)
    header = _measured(file, head)
    n_bytes = file.seek(0, os.SEEK_END)
    if not _has_end(file, header.format, head, n_bytes):
        raise DownloadError("truncated", f"a {header.format} file without its end", may_pass=True)
    return header


def header_of(content: bytes) -> ImageHeader | None:
    """
    The facts in a picture's header, whether or not its end is there.

    None for what is no JPEG, PNG or WebP by its magic bytes, whose header is broken, or which
    has more than `INPUT_PIXELS_MAX` pixels.
    """
    file = BytesIO(content)
    try:
        header = _measured(file, _head_of(file))
    except DownloadError:
        return None
    return header if header.n_pixels <= INPUT_PIXELS_MAX else None


def media_type_of(content: bytes) -> str | None:
    """The media type of JPEG, PNG or WebP bytes; None for anything else."""
    kind = _kind_of(content)
    return _MEDIA_TYPES[kind] if kind else None


def _head_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(_HEAD_BYTES)


def _kind_of(head: bytes) -> str | None:
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for kind, magic in _MAGIC.items() if head.startswith(magic)), None)


def _measured(file: BinaryIO, head: bytes) -> ImageHeader:
    kind = _kind_of(head)
    if kind is None:
        raise DownloadError("wrong_type", "no PNG, JPEG or WebP by its first bytes")
    if kind == "jpg":
        width, height = _jpeg_dimensions(file)
    else:
        width, height = _webp_dimensions(head) if kind == "webp" else _png_dimensions(head)
    if not width or not height:
        raise DownloadError("wrong_type", f"a {kind} file without dimensions")
    return ImageHeader(kind, width, height)


def _png_dimensions(head: bytes) -> tuple[int, int]:
    if head[12:16] != b"IHDR":
        return 0, 0
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _webp_dimensions(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + _little(head[24:27]), 1 + _little(head[27:30])
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = _little(head[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
    return 0, 0


def _jpeg_dimensions(file: BinaryIO) -> tuple[int, int]:
    """From segment to segment up to the first frame's."""
    file.seek(2)
    for _ in range(_SEGMENTS_MAX):
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != 0xFF:
            break
        if marker[1] in _FRAMES:
            frame = file.read(5)
            return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")
        if marker[1] == 0xFF:  # a filling byte before the marker itself
            file.seek(-3, os.SEEK_CUR)
        else:
            file.seek(max(0, int.from_bytes(marker[2:4], "big") - 2), os.SEEK_CUR)
    return 0, 0


def _has_end(file: BinaryIO, kind: str, head: bytes, n_bytes: int) -> bool:
    if kind == "webp":
        return 8 + _little(head[4:8]) <= n_bytes
    file.seek(max(0, n_bytes - _TAIL_BYTES))
    return _ENDS[kind] in file.read()


def _little(part: bytes) -> int:
    return int.from_bytes(part, "little")
