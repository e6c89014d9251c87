"""
Fetching one image: from one of its URLs, into the store, under its own name.

A dead URL is asked for again once, at the task itself; a failure that may pass is tried again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack

from mynth_dagster.client.limiter import backoff_s
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.errors import ApiError, DownloadError
from mynth_dagster.limits import DOWNLOAD_TRIES
from mynth_dagster.models.batch import FileSettings, Slice
from mynth_dagster.models.failure import KeptFile
from mynth_dagster.models.task import Task
from mynth_dagster.tables.images import ImageStore, PassingFile, UnfiledImage, stem_of

_TASKS_REMEMBERED = 64


class Fetcher:
    """Fetches images of one partition; several at a time may be under way."""

    def __init__(
        self,
        session: Session,
        store: ImageStore,
        slice_: Slice,
        settings: FileSettings,
        stop: StopSwitch,
    ) -> None:
        self._session, self._store, self._slice = session, store, slice_
        self._settings, self._stop = settings, stop
        self._again: OrderedDict[str, asyncio.Future[Task]] = OrderedDict()

    async def fetch(self, image: UnfiledImage) -> KeptFile:
        """
        The file of an image, whole, looked at, and under its name.

        Raises:
            DownloadError: It is not to be had; nothing is kept.
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
        """Nobody waits for tasks that are still being asked for."""
        for asked in self._again.values():
            asked.cancel()
        self._again.clear()

    async def _urls_again(self, image: UnfiledImage, dead: DownloadError) -> Sequence[str]:
        """Where the task says now that the image is."""
        if not await self._session.account.may_ask_about(image.task_id):
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
        # Of several reasons the one that tells most: of a URL that was asked at all.
        raise next((error for error in failures if error.code != "unsafe_url"), failures[0])

    async def _from_one_or_why(self, image: UnfiledImage, url: str) -> KeptFile | DownloadError:
        try:
            return await self._from_one(image, url)
        except DownloadError as error:
            return error

    async def _from_one(self, image: UnfiledImage, url: str) -> KeptFile:
        stem = stem_of(image.intent_id, image.image_index)
        with ExitStack() as stack:
            passing = await asyncio.to_thread(stack.enter_context, self._store.passing(self._slice))
            kept = await self._read(passing, stem, url)
            await asyncio.to_thread(self._store.publish, passing, self._slice, stem, kept)
        reach(CrashPoint.DOWNLOAD_PUBLISHED)
        return kept

    async def _read(self, passing: PassingFile, stem: str, url: str) -> KeptFile:
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
