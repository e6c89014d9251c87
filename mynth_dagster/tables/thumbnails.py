"""
Small pictures of results, kept beside the tables.

Layout: `<root>/<batch>/_thumbnails/<slice.path>/<intent id>-<index>.webp`; readers of tables skip
names that begin with `_`. The name is ours: nothing of a row or a URL is in it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from mynth_dagster.limits import PICTURE_MAX_PIXELS, THUMBNAIL_MAX_BYTES, THUMBNAIL_PX
from mynth_dagster.models.batch import Slice
from mynth_dagster.tables.arrow_errors import as_table_errors
from mynth_dagster.tables.files import TableStore
from mynth_dagster.tables.picture_facts import look_at_picture
from mynth_dagster.tables.result_counts import SampleImage

FOLDER = "_thumbnails"

_FORMATS = ("PNG", "JPEG", "WEBP")
_QUALITIES = (70, 55, 40, 25, 10)
_STRIP_HEIGHTS_PX = (96, 80, 64, 56, 48, 40, 32, 24)
_STRIP_QUALITIES = (40, 20, 10, 5)
_BEST_METHOD = 6


@dataclass(frozen=True)
class ThumbnailStore:
    """The thumbnails of one batch."""

    tables: TableStore

    def read(self, slice_: Slice, image: SampleImage) -> bytes | None:
        """
        The thumbnail of an image, None where there is none yet.

        Raises:
            TableError: The store cannot be read.
        """
        path = self._path(slice_, image)
        with as_table_errors(path, "cannot read the thumbnail"):
            if not self.tables.fs.isfile(path):
                return None
            content: bytes = self.tables.fs.cat_file(path)
        return content

    def write(self, slice_: Slice, image: SampleImage, content: bytes) -> None:
        """
        Keep a thumbnail: under a temporary name first, so that none is ever half there.

        Raises:
            TableError: The store cannot be written.
        """
        path = self._path(slice_, image)
        folder, name = posixpath.split(path)
        passing = f"{folder}/.{name}.tmp"
        with as_table_errors(path, "cannot write the thumbnail"):
            self.tables.fs.makedirs(folder, exist_ok=True)
            self.tables.fs.pipe_file(passing, content)
            self.tables.fs.mv(passing, path)

    def _path(self, slice_: Slice, image: SampleImage) -> str:
        name = f"{image.intent_id}-{image.image_index}.webp"
        return f"{self.tables.folder(FOLDER, slice_)}/{name}"


def draw_thumbnail(content: bytes) -> bytes | None:
    """
    A WebP file of at most `THUMBNAIL_PX` and `THUMBNAIL_MAX_BYTES`.

    None for what is no PNG, JPEG or WebP by its first bytes, is broken, or has more than
    `PICTURE_MAX_PIXELS`.
    """
    picture = _opened(content)
    if picture is None:
        return None
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    for quality in _QUALITIES:
        drawn = _encoded(picture, quality)
        if len(drawn) <= THUMBNAIL_MAX_BYTES:
            return drawn
    return None


def draw_strip(thumbnails: Sequence[bytes], bytes_max: int) -> bytes | None:
    """
    Some thumbnails side by side as one WebP file of at most `bytes_max`.

    As high and as good as fits; None where nothing does.
    """
    pictures = [picture for picture in map(_opened, thumbnails) if picture is not None]
    for height in _STRIP_HEIGHTS_PX if pictures else ():
        strip = _side_by_side(pictures, height)
        for quality in _STRIP_QUALITIES:
            drawn = _encoded(strip, quality)
            if len(drawn) <= bytes_max:
                return drawn
    return None


def _opened(content: bytes) -> Image.Image | None:
    try:
        # Before it is opened: a decoder makes room for whatever dimensions it is told.
        if look_at_picture(BytesIO(content)).n_pixels > PICTURE_MAX_PIXELS:
            return None
        picture = Image.open(BytesIO(content), formats=_FORMATS)
        picture.draft("RGB", (THUMBNAIL_PX, THUMBNAIL_PX))  # a JPEG is decoded small at once
        return picture.convert("RGB")
    except Exception:  # noqa: BLE001 - a broken file fails in as many ways as there are decoders
        return None


def _side_by_side(pictures: Sequence[Image.Image], height: int) -> Image.Image:
    gap = 4
    widths = [max(1, round(p.width * height / p.height)) for p in pictures]
    strip = Image.new("RGB", (sum(widths) + gap * max(0, len(widths) - 1) or 1, height), "white")
    left = 0
    for picture, width in zip(pictures, widths, strict=True):
        strip.paste(picture.resize((width, height)), (left, 0))
        left += width + gap
    return strip


def _encoded(picture: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=_BEST_METHOD)
    return buffer.getvalue()
