"""
Having the images of a batch rated, described or reviewed: one paid task for each image.

The same promises hold as for the images themselves, by the same means: an intent before each
request, at most one accepted request for each image and what is asked about it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial

from mynth_dagster.engine.collect import read_unread
from mynth_dagster.engine.events import process_events
from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, RunOptions
from mynth_dagster.engine.run import RunProgress, submit_and_wait
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.engine.work import Work
from mynth_dagster.errors import UnsupportedFeatureError
from mynth_dagster.followups.tables import FollowUpSummary, write_follow_ups
from mynth_dagster.ledger.queries import SliceLookup
from mynth_dagster.models.batch import Batch, Slice, follow_up_name
from mynth_dagster.models.batch_settings import Delivery, FollowUp, require_sound_follow_up
from mynth_dagster.models.intent import Intent, RowKey, UnresolvedIntent
from mynth_dagster.models.request import (
    FollowUpRequest,
    PaidRequest,
    follow_up_hash,
    follow_up_key,
    image_name,
)
from mynth_dagster.tables.manifest import remembered
from mynth_dagster.tables.requests import PlannedBatch, PlannedRow
from mynth_dagster.tables.store import IMAGES, TableStore


async def follow_up_images(
    session: Session,
    work: FollowUpWork,
    slices: Sequence[Slice],
    *,
    submitter: str,
    stop: CancelToken,
    progress: RunProgress,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> AsyncIterator[FollowUpSummary]:
    """
    Ask about every image that was not asked about, wait for the answers, write each partition.

    Raises:
        UnsupportedFeatureError: The revision has no such tasks; nothing was sent.
        TableError: A partition has no table of images; nothing was sent.
        LedgerError, ApiError, RunStoppedError: As `submit` and `wait_until_idle`.
    """
    profile = session.client.profile
    if not profile.HAS_FOLLOW_UPS:
        message = f"API revision {profile.REVISION} has no follow-up tasks"
        raise UnsupportedFeatureError(work.result_table, message)
    require_sound_follow_up(work.follow_up, profile.LIMITS)
    await submit_and_wait(
        session,
        work,
        slices,
        submitter=submitter,
        stop=stop,
        options=options,
        progress=progress,
    )
    await process_events(session, work)
    for slice_ in slices:
        yield await _collect(session, work, slice_)


async def _collect(session: Session, work: FollowUpWork, slice_: Slice) -> FollowUpSummary:
    name, read = work.ledger_name, session.ledger.read
    await read_unread(session, name, slice_)
    while True:
        row = await asyncio.to_thread(read.partition, name, slice_)
        summary = await asyncio.to_thread(
            write_follow_ups,
            TableStore(session.settings.root, work.batch.name),
            slice_,
            follow_up=work.follow_up,
            lookup=SliceLookup(read, name, slice_),
            version=row.version if row else 0,
            now_us=session.clock.now_us(),
            stop_code=row.stop_code if row else None,
        )
        if await session.ledger.mark_collected(name, slice_, summary.version):
            return summary
        # Somebody showed a newer version meanwhile, and this table came after theirs.


# What of a follow-up differs from making images: its rows are images, and its requests carry no
# tag, so that their tasks are known by type and URL alone.


_IMAGE_COLUMNS = ["prompt_id", "request_key", "image_index", "intent_id", "mynth_url", "url"]


class FollowUpWork(Work):
    """What is asked about the images of a batch."""

    def __init__(self, batch: Batch, follow_up: FollowUp) -> None:
        settings = follow_up.settings
        super().__init__(
            batch,
            ledger_name=follow_up_name(batch.ledger_name, settings.kind),
            result_table=settings.kind.table,
            settings=hashlib.sha256(repr(settings).encode("utf-8")).hexdigest()[:16],
            delivery=Delivery(),
            budget=follow_up.budget,
            retries=follow_up.retries,
            is_known_by_mark=False,  # a rebuilt ledger may know the images alone
        )
        self.follow_up = settings

    def iter_rows(self, store: TableStore, slice_: Slice) -> Iterator[PlannedBatch]:
        """The images of a partition; those in the user's own storage without a URL are left out."""
        for images in store.iter_batches(IMAGES, slice_, columns=_IMAGE_COLUMNS):
            cells = zip(*(images.column(name).to_pylist() for name in _IMAGE_COLUMNS), strict=True)
            rows = []
            for prompt_id, key, index, intent_id, mynth_url, own_url in cells:
                if url := mynth_url or own_url:
                    image, own_key = image_name(intent_id, index), follow_up_key(key, index)
                    request = FollowUpRequest(self.follow_up, url, image)
                    identity = follow_up_hash(self.follow_up, image)
                    rows.append(PlannedRow(index, prompt_id, own_key, identity, request))
            keys, hashes = [row.request_key for row in rows], [row.request_hash for row in rows]
            yield PlannedBatch(keys, hashes, partial(_at, rows))

    async def before_claim(self, session: Session, intent_id: str, request: PaidRequest) -> None:
        assert isinstance(request, FollowUpRequest)
        await session.ledger.save_follow_up(intent_id, request.model, request.url)

    def contents_of(
        self, session: Session, unresolved: Sequence[UnresolvedIntent]
    ) -> dict[tuple[str, str], str]:
        """The URLs of the images."""
        return {
            (candidate.intent.row.request_key, candidate.intent.request_hash): url
            for (_, url), candidates in session.ledger.read.open_follow_ups().items()
            for candidate in candidates
        }

    async def restore(self, session: Session, slice_: Slice) -> list[Intent]:
        store = TableStore(session.settings.root, self.batch.name)
        batches = store.iter_batches(self.result_table, slice_)
        intents = []
        for rows in await asyncio.to_thread(list, batches):
            for row in rows.to_pylist():
                if row["intent_id"] is None:
                    continue
                task_type, url = self.follow_up.kind.task_type, row["url"] or ""
                await session.ledger.save_follow_up(row["intent_id"], task_type, url)
                key = follow_up_key(row["request_key"], row["image_index"])
                intents.append(
                    Intent(
                        **remembered(row, slice_, RowKey(self.ledger_name, slice_.window, key)),
                        attempt=row["attempts"],
                        request_hash=row["request_hash"],
                        model=task_type,
                        n_asked=1,
                    )
                )
        return intents


def _at(rows: Sequence[PlannedRow], places: Sequence[int]) -> list[PlannedRow]:
    return [rows[place] for place in places]
