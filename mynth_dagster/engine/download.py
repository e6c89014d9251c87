"""
Keeping the files of a partition's images: each is fetched, looked at, and kept once.

The ledger says which are there. A file that has its name but is not in the ledger, because
the process died in between, is looked at and taken in; it is not fetched again. What cannot be
had is recorded with its reason, and tried again by the next run. All of it is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.collect import write_tables
from mynth_dagster.engine.fetch import Fetcher
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.errors import DownloadError
from mynth_dagster.models.batch import Batch, FileSettings, Slice
from mynth_dagster.models.failure import Download, KeptFile
from mynth_dagster.tables.images import (
    FilesSummary,
    UnfiledImage,
    iter_unfiled,
    open_image_store,
    read_unfiled,
    stem_of,
    summarise_files,
    tells_of_files,
)
from mynth_dagster.tables.results import ResultsSummary
from mynth_dagster.tables.store import TableStore


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
    session: Session, batch: Batch, slice_: Slice, *, stop: StopSwitch
) -> FilesReport:
    """
    Keep the files of a partition's images as far as they can be had, and write its tables anew.

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
        await session.ledger.mark_filed(batch.ledger_name, slice_, version)
    summary = await asyncio.to_thread(summarise_files, tables, slice_)
    seconds = session.clock.elapsed_s() - began_s
    return FilesReport(summary, keeper.counts, keeper.store.uri(slice_), seconds, results)


async def _write_what_is_known(
    session: Session, batch: Batch, slice_: Slice
) -> ResultsSummary | None:
    """The tables at their partition's version; None where they were there already."""
    tables = TableStore(session.settings.root, batch.name)
    row = await asyncio.to_thread(session.ledger.read.partition, batch.ledger_name, slice_)
    is_shown = row is None or row.collected >= row.version
    if is_shown and await asyncio.to_thread(tells_of_files, tables, slice_):
        return None
    return await write_tables(session, batch, slice_)


class _Keeper:
    """Downloads of one partition, by a bounded number of workers."""

    def __init__(self, session: Session, batch: Batch, slice_: Slice, stop: StopSwitch) -> None:
        self._session, self._slice, self._stop = session, slice_, stop
        self._settings = batch.files or FileSettings()
        self.store = open_image_store(self._settings.store or session.settings.root, batch.name)
        self.counts = DownloadCounts()
        self._named: dict[str, str] = {}
        self._tried: set[tuple[str, int]] = set()
        self._fetcher = Fetcher(session, self.store, slice_, self._settings, stop)

    async def run(self, rows: pa.Table) -> bool:
        """Deal with these images, each once in this run; whether there was any to deal with."""
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
        found = self._session.ledger.outcomes.downloads_for(ids)
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
        """A file that has its name already; one that may not be kept is fetched anew."""
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
    """All to their end; where one fails, the others are cancelled and it is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
