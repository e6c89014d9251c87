"""
Having the images of a batch rated, described or reviewed: one paid task for each image.

The same promises hold as for the images themselves, by the same means: an intent before each
request, at most one accepted request for each image and what is asked about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from mynth_dagster.engine.collect import read_unread
from mynth_dagster.engine.events import process_events
from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, RunOptions
from mynth_dagster.engine.run import RunProgress, submit_and_wait
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import ConfigError, UnsupportedFeatureError
from mynth_dagster.ledger.queries import SliceLookup
from mynth_dagster.models.batch import Batch, Slice, require_sound_follow_up
from mynth_dagster.tables.follow_up_tables import FollowUpSummary, write_follow_ups
from mynth_dagster.tables.store import TableStore


async def follow_up_images(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    *,
    submitter: str,
    stop: CancelToken,
    progress: RunProgress,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> AsyncIterator[FollowUpSummary]:
    """
    Ask about every image that was not asked about, wait for the answers, write each partition.

    Args:
        batch: Made by `Batch.following_up`.

    Raises:
        UnsupportedFeatureError: The revision has no such tasks; nothing was sent.
        TableError: A partition has no table of images; nothing was sent.
        LedgerError, ApiError, RunStoppedError: As `submit` and `wait_until_idle`.
    """
    _require_offered(session, batch)
    await submit_and_wait(
        session,
        batch,
        slices,
        submitter=submitter,
        stop=stop,
        options=options,
        progress=progress,
    )
    await process_events(session, batch)
    for slice_ in slices:
        yield await _collect(session, batch, slice_)


def _require_offered(session: Session, batch: Batch) -> None:
    if batch.follow_up is None:
        raise ConfigError("follow_up", "the batch asks nothing about its images")
    profile, table = session.client.profile, batch.follow_up.kind.table
    if not profile.HAS_FOLLOW_UPS:
        message = f"API revision {profile.REVISION} has no follow-up tasks"
        raise UnsupportedFeatureError(table, message)
    require_sound_follow_up(batch.follow_up, profile.LIMITS)


async def _collect(session: Session, batch: Batch, slice_: Slice) -> FollowUpSummary:
    await read_unread(session, batch, slice_)
    while True:
        summary = await _write(session, batch, slice_)
        if await session.ledger.mark_collected(batch.ledger_name, slice_, summary.version):
            return summary
        # Somebody showed a newer version meanwhile, and this table came after theirs.


async def _write(session: Session, batch: Batch, slice_: Slice) -> FollowUpSummary:
    reader, name = session.ledger.read, batch.ledger_name
    row = await asyncio.to_thread(reader.partition, name, slice_)
    return await asyncio.to_thread(
        write_follow_ups,
        TableStore(session.settings.root, batch.name),
        slice_,
        batch=batch,
        lookup=SliceLookup(session.ledger.read, name, slice_),
        version=row.version if row else 0,
        now_us=session.clock.now_us(),
        stop_code=row.stop_code if row else None,
    )
