"""Thumbnails: small whatever comes in, and nothing for what is no picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mynth_dagster.limits import THUMBNAIL_MAX_BYTES, THUMBNAIL_PX
from mynth_dagster.models.batch import Slice
from mynth_dagster.tables import images
from mynth_dagster.tables.images import ThumbnailStore, draw_strip, draw_thumbnail
from mynth_dagster.tables.results import SampleImage

IMAGE = SampleImage("int_abc", 0, "../../p", "a kite", "m", "https://cdn.mynth.io/x.webp")


def _encoded(form: str, size: tuple[int, int] = (640, 320), *, noisy: bool = False) -> bytes:
    picture = Image.effect_noise(size, 120) if noisy else Image.linear_gradient("L").resize(size)
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_pictures_become_small_webp(form):
    """The longer side is as configured, the proportions stay, and the file is small."""
    drawn = draw_thumbnail(_encoded(form))

    with Image.open(BytesIO(drawn)) as picture:
        assert picture.format == "WEBP"
        assert picture.size == (THUMBNAIL_PX, THUMBNAIL_PX // 2)
    assert len(drawn) <= THUMBNAIL_MAX_BYTES


def test_noise_is_squeezed_until_it_fits():
    """Even the least compressible picture stays within the bytes allowed, or is left out."""
    drawn = draw_thumbnail(_encoded("PNG", (400, 400), noisy=True))

    assert drawn is None or len(drawn) <= THUMBNAIL_MAX_BYTES


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not a picture</html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a" + bytes(40),
        b"RIFF" + bytes(40),
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        _encoded("PNG")[:200],
        _encoded("JPEG")[:120],
    ],
)
def test_what_is_no_picture_gets_none(content):
    """Other types, forged first bytes and torn files are left out without an error."""
    assert draw_thumbnail(content) is None


def test_bomb_is_not_unpacked(monkeypatch):
    """A small file of many pixels is refused by its header."""
    monkeypatch.setattr(images, "PICTURE_MAX_PIXELS", 640 * 320 - 1)

    assert draw_thumbnail(_encoded("PNG")) is None


@pytest.mark.parametrize("n_pictures", [1, 3, 6])
def test_strip_fits_into_the_page(n_pictures):
    """Thumbnails side by side, as high as the bytes allow."""
    strip = draw_strip([draw_thumbnail(_encoded("WEBP"))] * n_pictures, 550)

    assert len(strip) <= 550
    with Image.open(BytesIO(strip)) as picture:
        assert picture.height >= 24
        assert picture.width >= n_pictures * picture.height


def test_strip_of_nothing_is_none():
    """There is nothing to draw, or no room to draw it."""
    assert draw_strip([b"broken"], 550) is None
    assert draw_strip([draw_thumbnail(_encoded("WEBP"))], 10) is None


@pytest.mark.parametrize("root", ["disk", "memory"])
def test_store_keeps_thumbnails_beside_the_tables(store, tmp_path, root):
    """What is written is read again, under a name in which nothing of a row or URL is."""
    tables = store if root == "disk" else type(store)("memory://thumbs", "shop")
    kept = ThumbnailStore(tables)
    slice_ = Slice("2026-11-22", "003")

    assert kept.read(slice_, IMAGE) is None
    kept.write(slice_, IMAGE, b"webp")

    assert kept.read(slice_, IMAGE) == b"webp"
    if root == "disk":
        (path,) = [p for p in Path(tmp_path).rglob("*") if p.is_file()]
        assert path.relative_to(tmp_path / "tables").as_posix() == (
            "shop/_thumbnails/date=2026-11-22/fan_out=003/int_abc-0.webp"
        )
