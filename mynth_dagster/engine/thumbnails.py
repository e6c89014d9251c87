"""
Thumbnails of the first images of a partition, fetched while collecting.

They are a courtesy to people: whatever goes wrong with one leaves it out and stops nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from mynth_dagster.client.download import is_trusted_picture
from mynth_dagster.engine.session import Session
from mynth_dagster.errors import MynthError
from mynth_dagster.limits import THUMBNAIL_DOWNLOADS
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.tables.images import ThumbnailStore, draw_thumbnail, read_file
from mynth_dagster.tables.results import SampleImage
from mynth_dagster.tables.store import TableStore


@dataclass(frozen=True)
class Thumbnails:
    """
    WebP files by image, in the order of the images.

    `n_failed` images could have had one and have none.
    """

    by_image: Mapping[SampleImage, bytes] = field(default_factory=lambda: MappingProxyType({}))
    n_failed: int = 0


NO_THUMBNAILS = Thumbnails()


async def make_thumbnails(
    session: Session,
    batch: Batch,
    slice_: Slice,
    images: Sequence[SampleImage],
    *,
    budget_s: float,
) -> Thumbnails:
    """
    Read the thumbnails that are there and make the others, within ``budget_s``.

    Pictures are fetched from trusted hosts only, without credentials. Never raises for what a
    picture, its host or the store does.
    """
    store = ThumbnailStore(TableStore(session.settings.root, batch.name))
    made: dict[SampleImage, bytes] = {}
    waiting = iter(images)
    workers = [
        asyncio.create_task(_work(session, store, slice_, waiting, made))
        for _ in range(min(THUMBNAIL_DOWNLOADS, len(images)))
    ]
    if workers:
        _, late = await asyncio.wait(workers, timeout=max(0.0, budget_s))
        for worker in late:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    in_order = {image: made[image] for image in images if image in made}
    return Thumbnails(in_order, n_failed=len(images) - len(in_order))


async def _work(
    session: Session,
    store: ThumbnailStore,
    slice_: Slice,
    waiting: Iterator[SampleImage],
    made: dict[SampleImage, bytes],
) -> None:
    for image in waiting:
        try:
            thumbnail = await _thumbnail(session, store, slice_, image)
        except MynthError:
            continue
        if thumbnail is not None:
            made[image] = thumbnail


async def _thumbnail(
    session: Session, store: ThumbnailStore, slice_: Slice, image: SampleImage
) -> bytes | None:
    kept = await asyncio.to_thread(store.read, slice_, image)
    if kept is not None:
        return kept
    content = await _content(session, image)
    if content is None:
        return None
    thumbnail = await asyncio.to_thread(draw_thumbnail, content)
    if thumbnail is not None:
        await asyncio.to_thread(store.write, slice_, image, thumbnail)
    return thumbnail


async def _content(session: Session, image: SampleImage) -> bytes | None:
    """Of the file where it is kept, else from Mynth."""
    if image.file_uri is not None:
        kept = await asyncio.to_thread(read_file, image.file_uri)
        if kept is not None:
            return kept
    url = _trusted_url(session, image)
    return None if url is None else await session.client.get_picture(url)


def _trusted_url(session: Session, image: SampleImage) -> str | None:
    """Mynth's own copy first: it lies at Mynth's host whatever the destination."""
    settings = session.settings.client
    known = [url for url in (image.mynth_url, image.url) if url]
    return next((url for url in known if is_trusted_picture(url, settings)), None)
