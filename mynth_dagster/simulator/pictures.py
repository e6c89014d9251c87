"""
Pictures in place of generated images: layered hills under a sky, drawn from a number.

They have the exact size and format that was reported, differ visibly from prompt to prompt, and
are never stored; drawn small and enlarged, so that a large one is not slow.
"""

from __future__ import annotations

import math
from colorsys import hls_to_rgb
from functools import lru_cache
from io import BytesIO
from random import Random

from PIL import Image, ImageDraw

from mynth_dagster.simulator import invented

MIME_TYPES = {"webp": b"image/webp", "png": b"image/png", "jpg": b"image/jpeg"}

_SKETCH_PX = 384  # longer side of the sketch that is enlarged
_N_HILLS = 5
_JPEG_QUALITY_MAX = 95  # above it files grow without looking better
_BEST_EFFORT = 0  # WebP's fastest method

Colour = tuple[int, int, int]


@lru_cache(maxsize=invented.PICTURES_KEPT)
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
    return _encode(picture, file_format, quality)


def pixels_of(content: bytes) -> str | None:
    """Width and height of a picture, at most what the simulator draws; None if it is none."""
    try:
        with Image.open(BytesIO(content)) as picture:
            sides = [min(side, invented.MAX_SIDE_PX) for side in picture.size]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return f"{sides[0]}x{sides[1]}"


def _encode(picture: Image.Image, file_format: str, quality: int) -> bytes:
    buffer = BytesIO()
    if file_format == "png":
        picture.quantize(64).save(buffer, "PNG", compress_level=3)
    elif file_format == "jpg":
        picture.save(buffer, "JPEG", quality=max(1, min(quality, _JPEG_QUALITY_MAX)))
    else:
        picture.save(buffer, "WEBP", quality=quality, method=_BEST_EFFORT)
    return buffer.getvalue()


def _draw_sketch(number: int, width: int, height: int) -> Image.Image:
    dice = Random(number)  # noqa: S311 - for pictures, not for secrets
    hue = dice.random()
    sketch = _draw_sky(width, height, hue)
    brush = ImageDraw.Draw(sketch)
    _draw_sun(brush, dice, width, height, hue)
    for layer in range(_N_HILLS):
        depth = (layer + 1) / _N_HILLS
        colour = _colour(hue + 0.45 + 0.06 * layer, 0.62 - 0.45 * depth, 0.45)
        brush.polygon(_hill(dice, depth, width, height), fill=colour)
    return sketch


def _draw_sky(width: int, height: int, hue: float) -> Image.Image:
    top, bottom = _colour(hue, 0.42, 0.55), _colour(hue + 0.12, 0.86, 0.7)
    fade = Image.linear_gradient("L").resize((width, height))
    return Image.composite(
        Image.new("RGB", (width, height), bottom), Image.new("RGB", (width, height), top), fade
    )


def _draw_sun(
    brush: ImageDraw.ImageDraw, dice: Random, width: int, height: int, hue: float
) -> None:
    radius = min(width, height) * (0.07 + 0.08 * dice.random())
    x, y = width * (0.15 + 0.7 * dice.random()), height * (0.15 + 0.25 * dice.random())
    colour = _colour(hue + 0.15, 0.93, 0.9)
    brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


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
