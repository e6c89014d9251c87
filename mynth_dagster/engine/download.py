"""
Downloads of a partition's images: each file is fetched, verified, and kept once.

The ledger records which files are there. A file that has its name but is not in the ledger, because
the process died in between, is verified and taken in; it is not fetched again. A download that
fails is recorded with its reason, and tried again by the next run. All of it is free.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from mynth_dagster.client.download import is_trusted_picture
from mynth_dagster.client.limiter import backoff_s
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.collect import write_tables
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import ApiError, DownloadError, MynthError
from mynth_dagster.limits import DOWNLOAD_TRIES, THUMBNAIL_DOWNLOADS
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.batch_settings import Files
from mynth_dagster.models.failure import Download, KeptFile
from mynth_dagster.models.task import Task
from mynth_dagster.tables.images import (
    FilesSummary,
    ImageStore,
    TempFile,
    ThumbnailStore,
    UnfiledImage,
    draw_thumbnail,
    iter_unfiled,
    open_image_store,
    read_file,
    read_unfiled,
    stem_of,
    summarise_files,
    tells_of_files,
)
from mynth_dagster.tables.results import ResultsSummary, SampleImage
from mynth_dagster.tables.store import TableStore

# Fetching one image: from one of its URLs, into the store, under its own name.
#
# If a URL has expired, the task is read once more for a new one; a passing failure is tried again.


_TASKS_REMEMBERED = 64


class Fetcher:
    """Fetches images of one partition; several at a time may be under way."""

    def __init__(
        self,
        session: Session,
        store: ImageStore,
        slice_: Slice,
        settings: Files,
        stop: CancelToken,
    ) -> None:
        self._session, self._store, self._slice = session, store, slice_
        self._settings, self._stop = settings, stop
        self._again: OrderedDict[str, asyncio.Future[Task]] = OrderedDict()

    async def fetch(self, image: UnfiledImage) -> KeptFile:
        """
        Fetch the file of an image, verify it, and publish it under its name.

        Raises:
            DownloadError: It cannot be downloaded; nothing is kept.
            TableError: The store cannot be written.
        """
        if not image.urls:
            raise DownloadError("no_url", "it was delivered to your own storage only")
        try:
            return await self._from_any(image, image.urls)
        except DownloadError as error:
            if error.code != "url_expired":
                raise
            dead = error
        return await self._from_any(image, await self._urls_again(image, dead))

    def close(self) -> None:
        """Cancel the reads of tasks that are still in flight."""
        for asked in self._again.values():
            asked.cancel()
        self._again.clear()

    async def _urls_again(self, image: UnfiledImage, dead: DownloadError) -> Sequence[str]:
        """Read the task again and return the image's present URLs."""
        if not await self._session.account.may_read(image.task_id):
            raise dead
        try:
            task = await self._task_again(image.task_id)
        except ApiError:
            raise dead from None
        found = [outcome for outcome in task.images if outcome.index == image.image_index]
        urls = [url for outcome in found for url in (outcome.mynth_url, outcome.url) if url]
        if not urls:
            raise dead
        return list(dict.fromkeys(urls))

    async def _task_again(self, task_id: str) -> Task:
        """Read once for all its images, as far as they come together."""
        if task_id not in self._again:
            while len(self._again) >= _TASKS_REMEMBERED:
                self._again.popitem(last=False)
            self._again[task_id] = asyncio.ensure_future(self._session.client.get_task(task_id))
        return await asyncio.shield(self._again[task_id])

    async def _from_any(self, image: UnfiledImage, urls: Sequence[str]) -> KeptFile:
        failures = []
        for url in urls:
            found = await self._from_one_or_why(image, url)
            if isinstance(found, KeptFile):
                return found
            failures.append(found)
        # Of several reasons the most telling one: that of a URL that was requested at all.
        raise next((error for error in failures if error.code != "unsafe_url"), failures[0])

    async def _from_one_or_why(self, image: UnfiledImage, url: str) -> KeptFile | DownloadError:
        try:
            return await self._from_one(image, url)
        except DownloadError as error:
            return error

    async def _from_one(self, image: UnfiledImage, url: str) -> KeptFile:
        stem = stem_of(image.intent_id, image.image_index)
        with ExitStack() as stack:
            passing = await asyncio.to_thread(
                stack.enter_context, self._store.temp_file(self._slice)
            )
            kept = await self._read(passing, stem, url)
            await asyncio.to_thread(self._store.publish, passing, self._slice, stem, kept)
        reach(CrashPoint.DOWNLOAD_PUBLISHED)
        return kept

    async def _read(self, passing: TempFile, stem: str, url: str) -> KeptFile:
        """Repeated where the failure may pass; each try begins from nothing."""

        async def take(chunk: bytes) -> None:
            await asyncio.to_thread(self._store.write, passing, chunk)
            reach(CrashPoint.DOWNLOADING)

        pictures, settings = self._session.client.pictures, self._settings
        attempt = 0
        while True:
            attempt += 1
            try:
                await pictures.fetch(url, take, bytes_max=settings.max_bytes)
                return await asyncio.to_thread(
                    self._store.verified, passing, self._slice, stem, settings.max_pixels
                )
            except DownloadError as error:
                if not error.may_pass or attempt >= DOWNLOAD_TRIES or self._stop.is_cancelled:
                    raise
            await asyncio.to_thread(passing.restart)
            await self._session.clock.sleep(backoff_s(attempt))


@dataclass
class DownloadCounts:
    """
    What one run did for the files of a partition.

    `n_taken_in` had their names already and were not in the ledger.
    """

    n_fetched: int = 0
    n_taken_in: int = 0
    n_failed: int = 0


@dataclass(frozen=True)
class FilesReport:
    """
    The files of a partition, what a run did for them, and how long it took.

    `results` is what the tables hold where they were written anew.
    """

    summary: FilesSummary
    counts: DownloadCounts
    uri: str
    seconds: float
    results: ResultsSummary | None = None


async def keep_files(
    session: Session, batch: Batch, slice_: Slice, *, stop: CancelToken
) -> FilesReport:
    """
    Download the files of a partition's images as far as possible, and write its tables again.

    Idempotent; to be repeated as often as wanted. Cancelled by `stop`, it ends after what is
    being fetched, and another run goes on from there.

    Raises:
        ConfigError: The store is no place that files could be kept in.
        TableError: There is no table of images, or the store cannot be written.
    """
    began_s = session.clock.elapsed_s()
    tables = TableStore(session.settings.root, batch.name)
    keeper = _Keeper(session, batch, slice_, stop)
    results = await _write_what_is_known(session, batch, slice_)
    while True:
        version, unfiled = await asyncio.to_thread(read_unfiled, tables, slice_)
        if not await keeper.run(unfiled):
            break
        results = await _write_what_is_known(session, batch, slice_) or results
    if not stop.is_cancelled:
        await session.ledger.mark_downloaded(batch.ledger_name, slice_, version)
    summary = await asyncio.to_thread(summarise_files, tables, slice_)
    seconds = session.clock.elapsed_s() - began_s
    return FilesReport(summary, keeper.counts, keeper.store.uri(slice_), seconds, results)


async def _write_what_is_known(
    session: Session, batch: Batch, slice_: Slice
) -> ResultsSummary | None:
    """Write the tables at their partition's version; return None if they were there already."""
    tables = TableStore(session.settings.root, batch.name)
    row = await asyncio.to_thread(session.ledger.read.partition, batch.ledger_name, slice_)
    is_shown = row is None or row.collected >= row.version
    if is_shown and await asyncio.to_thread(tells_of_files, tables, slice_):
        return None
    return await write_tables(session, batch, slice_)


class _Keeper:
    """Downloads of one partition, by a bounded number of workers."""

    def __init__(self, session: Session, batch: Batch, slice_: Slice, stop: CancelToken) -> None:
        self._session, self._slice, self._stop = session, slice_, stop
        self._settings = batch.delivery.files or Files()
        self.store = open_image_store(self._settings.store or session.settings.root, batch.name)
        self.counts = DownloadCounts()
        self._named: dict[str, str] = {}
        self._tried: set[tuple[str, int]] = set()
        self._fetcher = Fetcher(session, self.store, slice_, self._settings, stop)

    async def run(self, rows: pa.Table) -> bool:
        """Process these images, each once in this run; return whether there were any."""
        n_before = len(self._tried)
        if rows.num_rows == 0 or self._stop.is_cancelled:
            return False
        await asyncio.to_thread(self.store.remove_orphans, self._slice)
        self._named = await asyncio.to_thread(self.store.found, self._slice)
        kept = await asyncio.to_thread(self._kept_of, rows)
        waiting = (image for image in iter_unfiled(rows) if self._is_open(image, kept))
        n_workers = min(self._settings.concurrency, rows.num_rows)
        try:
            await _together([self._work(waiting) for _ in range(n_workers)])
        finally:
            self._fetcher.close()
        return len(self._tried) > n_before

    def _kept_of(self, rows: pa.Table) -> set[tuple[str, int]]:
        """The ledger may know more than the tables show."""
        ids = rows.column("intent_id").unique().to_pylist()
        found = self._session.ledger.read.downloads_for(ids)
        return {
            (intent_id, index)
            for intent_id, downloads in found.items()
            for index, download in downloads.items()
            if download.file is not None
        }

    def _is_open(self, image: UnfiledImage, kept: set[tuple[str, int]]) -> bool:
        key = (image.intent_id, image.image_index)
        return key not in kept and key not in self._tried

    async def _work(self, waiting: Iterator[UnfiledImage]) -> None:
        for image in waiting:
            if self._stop.is_cancelled:
                return
            self._tried.add((image.intent_id, image.image_index))
            await self._session.ledger.record_download(await self._dealt_with(image))
            reach(CrashPoint.DOWNLOAD_RECORDED)

    async def _dealt_with(self, image: UnfiledImage) -> Download:
        place = (image.intent_id, image.image_index)
        try:
            file = await self._taken_in(image) or await self._fetched(image)
        except DownloadError as error:
            self.counts.n_failed += 1
            return Download(
                *place,
                self._session.clock.now_us(),
                code=error.code,
                message=error.reason,
                http_status=error.http_status,
            )
        return Download(*place, self._session.clock.now_us(), file)

    async def _fetched(self, image: UnfiledImage) -> KeptFile:
        file = await self._fetcher.fetch(image)
        self.counts.n_fetched += 1
        return file

    async def _taken_in(self, image: UnfiledImage) -> KeptFile | None:
        """Verify a file that has its name already; one that may not be kept is fetched again."""
        path = self._named.get(stem_of(image.intent_id, image.image_index))
        if path is None:
            return None
        try:
            file = await asyncio.to_thread(self.store.adopt, path, self._settings.max_pixels)
        except DownloadError:
            return None
        self.counts.n_taken_in += 1
        return file


async def _together(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Await all; if one fails, cancel the others and raise its error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Thumbnails of the first images of a partition, fetched while collecting.
#
# They are optional: a thumbnail that cannot be made is left out and stops nothing.


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

    Images are fetched from trusted hosts only, without credentials. Never raises for a fault of an
    image, its host or the store.
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
