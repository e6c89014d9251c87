"""Images: those that were uploaded, kept in memory, and pictures in place of generated ones."""

from __future__ import annotations

import math
from collections import OrderedDict
from colorsys import hls_to_rgb
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from random import Random

from PIL import Image, ImageDraw

from mynth_dagster.limits import RevisionLimits
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.rng import make_id
from mynth_dagster.simulator.validation import Path, invalid

_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """One uploaded file, its real media type, and when it came (UTC microseconds)."""

    content: bytes
    media_type: str
    added_us: int


class UploadStore:
    """Uploads by file name, the oldest forgotten beyond a total size in bytes."""

    def __init__(self, seed: int, max_bytes: int = defaults.UPLOADS_KEPT_BYTES) -> None:
        self._seed = seed
        self._max_bytes = max_bytes
        self.n_added = 0
        self._n_bytes = 0
        self._uploads: OrderedDict[str, StoredUpload] = OrderedDict()

    def add(self, content: bytes, media_type: str, at_us: int) -> str:
        """Keep a checked file; its path below the base URL."""
        self.n_added += 1
        name = f"inputs/{make_id('inp_', self._seed, self.n_added)}.{_EXTENSIONS[media_type]}"
        self._uploads[name] = StoredUpload(content, media_type, at_us)
        self._n_bytes += len(content)
        while self._n_bytes > self._max_bytes:
            _, forgotten = self._uploads.popitem(last=False)
            self._n_bytes -= len(forgotten.content)
        return f"/cdn/{name}"

    def find(self, name: str) -> StoredUpload | None:
        """The upload of a file name such as ``inputs/inp_….png``."""
        return self._uploads.get(name)


def check_upload(content: bytes, path: Path, limits: RevisionLimits) -> str:
    """
    The media type that a file's first bytes show.

    Raises:
        Refusal: The file is too small, too large, or of no accepted format.
    """
    smallest, largest = limits.upload_file_min_bytes, limits.upload_file_max_bytes
    if not smallest <= len(content) <= largest:
        raise invalid(path, f"must have {smallest} to {largest} bytes")
    media_type = _media_type_of(content)
    if media_type not in limits.upload_formats:
        raise invalid(path, "must be a JPEG, PNG or WebP image")
    return media_type


def _media_type_of(content: bytes) -> str | None:
    """The media type of JPEG, PNG or WebP bytes; None for anything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return None


# Pictures in place of generated images: layered hills under a sky, drawn from a number.
#
# They have the exact size and format that was reported, differ visibly from prompt to prompt, and
# are never stored; drawn small and enlarged, so that a large one is not slow.


MEDIA_TYPES = {"webp": "image/webp", "png": "image/png", "jpg": "image/jpeg"}

_SKETCH_PX = 384  # longer side of the sketch that is enlarged
_N_HILLS = 5
_JPEG_QUALITY_MAX = 95  # above it files grow without looking better
_FASTEST = 0  # of WebP's methods

Colour = tuple[int, int, int]


@lru_cache(maxsize=defaults.PICTURES_KEPT)
def draw_picture(number: int, width: int, height: int, file_format: str, quality: int) -> bytes:
    """
    The bytes of a picture.

    Args:
        number: Chooses motif and colours; equal numbers give equal pictures.
        width: Pixels.
        height: Pixels.
        file_format: ``webp``, ``png`` or ``jpg``.
        quality: 0 to 100; PNG knows none.
    """
    scale = _SKETCH_PX / max(width, height)
    sketch = _draw_sketch(number, max(2, round(width * scale)), max(2, round(height * scale)))
    picture = sketch.resize((width, height), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    if file_format == "png":
        picture.quantize(64).save(buffer, "PNG", compress_level=3)
    elif file_format == "jpg":
        picture.save(buffer, "JPEG", quality=max(1, min(quality, _JPEG_QUALITY_MAX)))
    else:
        picture.save(buffer, "WEBP", quality=quality, method=_FASTEST)
    return buffer.getvalue()


def pixels_of(content: bytes) -> str | None:
    """Width and height of a picture, at most what the simulator draws; None if it is none."""
    try:
        with Image.open(BytesIO(content)) as picture:
            sides = [min(side, defaults.MAX_SIDE_PX) for side in picture.size]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return f"{sides[0]}x{sides[1]}"


def _draw_sketch(number: int, width: int, height: int) -> Image.Image:
    dice = Random(number)  # noqa: S311 - for pictures, not for secrets
    hue = dice.random()
    top, bottom = (
        Image.new("RGB", (width, height), _colour(hue + shift, lightness, saturation))
        for shift, lightness, saturation in ((0, 0.42, 0.55), (0.12, 0.86, 0.7))
    )
    fade = Image.linear_gradient("L").resize((width, height))
    sketch = Image.composite(bottom, top, fade)
    brush = ImageDraw.Draw(sketch)
    radius = min(width, height) * (0.07 + 0.08 * dice.random())
    x, y = width * (0.15 + 0.7 * dice.random()), height * (0.15 + 0.25 * dice.random())
    sun = (x - radius, y - radius, x + radius, y + radius)
    brush.ellipse(sun, fill=_colour(hue + 0.15, 0.93, 0.9))
    for layer in range(_N_HILLS):
        depth = (layer + 1) / _N_HILLS
        colour = _colour(hue + 0.45 + 0.06 * layer, 0.62 - 0.45 * depth, 0.45)
        brush.polygon(_hill(dice, depth, width, height), fill=colour)
    return sketch


def _hill(dice: Random, depth: float, width: int, height: int) -> list[tuple[float, float]]:
    crest = height * (0.38 + 0.5 * depth)
    waves = [(dice.uniform(0.5, 3.0), dice.uniform(0, math.tau)) for _ in range(3)]
    swing = height * 0.05
    ridge = [
        (x, crest + swing * sum(math.sin(math.tau * f * x / width + shift) for f, shift in waves))
        for x in range(-1, width + 2, 2)
    ]
    return [*ridge, (width + 1, height + 1), (-1, height + 1)]


def _colour(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = hls_to_rgb(hue % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)
