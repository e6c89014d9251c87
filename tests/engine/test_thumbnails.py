"""Thumbnails of a collected partition: made once, and never in the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mynth_dagster.engine import download
from mynth_dagster.engine.download import make_thumbnails
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.batch_settings import Files
from mynth_dagster.tables.results import SampleImage

SLICE, BATCH = Slice(), Batch("b")


def _images(bench):
    return [
        SampleImage(
            intent_id=row["intent_id"],
            image_index=row["image_index"],
            prompt_id=row["prompt_id"],
            prompt="p",
            model=row["model"],
            url=row["url"],
        )
        for row in bench.table("images")
    ]


def _make(bench, images, budget_s=20.0):
    async def made():
        async with bench.session() as session:
            return await make_thumbnails(session, BATCH, SLICE, images, budget_s=budget_s)

    return asyncio.run(made())


def _n_downloads(bench):
    return sum(n for route, n in bench.log["requests"].items() if "/cdn/" in route)


@pytest.fixture
def collected(new_bench):
    """Six images of a simulated Mynth."""
    bench = new_bench()
    bench.run(6)
    return bench


def test_each_image_is_fetched_once(collected):
    """Thumbnails come in the order of the images; a second collection finds them kept."""
    images = _images(collected)

    first, again = _make(collected, images), _make(collected, images)

    assert list(first.by_image) == images
    assert again.by_image == first.by_image
    assert first.n_failed == 0
    assert _n_downloads(collected) == 6


def test_failures_are_left_out_and_counted(collected):
    """A strange host, a missing file and an image without a URL cost nothing but themselves."""
    good, strange, missing, without = _images(collected)[:4]
    strange = replace(strange, url="https://evil.example/a.webp")
    missing = replace(missing, url=f"{collected.server.url}/cdn/img_none.webp")
    without = replace(without, url=None)

    made = _make(collected, [strange, missing, without, good])

    assert list(made.by_image) == [good]
    assert made.n_failed == 3


def test_own_copy_of_mynth_is_preferred(collected):
    """Where an image went to somebody's own host, Mynth's copy is shown."""
    (image, *_) = _images(collected)
    elsewhere = replace(image, url="https://img.shop.example/a.webp", mynth_url=image.url)

    assert _make(collected, [elsewhere]).n_failed == 0


def test_slow_host_holds_nobody_up(collected):
    """When the time is over, what is not there is left out."""
    made = _make(collected, _images(collected), budget_s=0.0)

    assert made.n_failed == 6


def test_broken_store_is_survived(collected, monkeypatch):
    """A store that cannot be written leaves the collection alone."""
    (collected.root / "b" / "_thumbnails").write_text("a file where a folder should be")

    made = _make(collected, _images(collected))

    assert made.n_failed == 6


def test_no_images_need_no_thumbnails(collected):
    """Nothing is asked for an empty partition."""
    assert _make(collected, []) == download.NO_THUMBNAILS
    assert _n_downloads(collected) == 0


def test_kept_files_need_no_second_download(new_bench):
    """Where the files of images are kept, thumbnails are made of these."""
    bench = new_bench()
    bench.run(3, files=Files())
    images = [
        replace(image, file_uri=row["file_path"])
        for image, row in zip(_images(bench), bench.table("images"), strict=True)
    ]

    made = _make(bench, images)

    assert (len(made.by_image), made.n_failed) == (3, 0)
    assert _n_downloads(bench) == 3
