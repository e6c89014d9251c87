"""Reading finished tasks, each once, and writing the tables of a partition."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from mynth_dagster.clock import US_PER_S
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.poll import is_own
from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, UnauthorizedError
from mynth_dagster.ledger.observations import Observation, Source
from mynth_dagster.ledger.queries import SliceLookup
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.intent import Awaited
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.tables.results import RESULT_TABLES, ResultsSummary, write_results
from mynth_dagster.tables.store import TASKS, TableStore


async def read_finished(session: Session, tasks: Sequence[Awaited]) -> int:
    """
    Read these finished tasks into the ledger; return how many could not be read now.

    Raises:
        UnauthorizedError: The key is refused.
    """
    waiting = iter(tasks)
    n_workers = min(len(tasks), session.settings.client.concurrency)
    failed = await asyncio.gather(*(_read_each(session, waiting) for _ in range(n_workers)))
    return sum(failed)


async def read_surplus(
    session: Session,
    ledger_name: str,
    slices: Sequence[Slice] | None,
    *,
    until_s: float | None = None,
) -> None:
    """
    Read further tasks of intents when they are finished: they cost money too.

    Args:
        slices: None: all partitions.
        until_s: On `Clock.elapsed_s`; no request starts later.
    """
    reach, read = await session.account.reach(), session.ledger.read.unread_surplus
    open_ = await asyncio.to_thread(read, ledger_name, slices, reach.polled)
    for intent, task_id in open_:
        if until_s is not None and session.clock.elapsed_s() >= until_s:
            return
        with suppress(ApiError):
            task = await session.client.get_task(task_id)
            if task.status.is_final and await is_own(session, task, intent):
                now = session.clock.instant()
                await session.ledger.observe(
                    Observation(Source.TASK, task_id, now, Awaited.of(intent, task_id), task=task)
                )


async def collect_slice(
    session: Session, batch: Batch, slice_: Slice, collector: str | None = None
) -> ResultsSummary:
    """
    Bring one partition's tables up to its version; idempotent.

    Finished tasks that were not read yet are read first. The tables carry the version they show, so
    that a change that comes while they are written is noticed and shown next time.
    """
    await read_unread(session, batch.ledger_name, slice_)
    return await write_tables(session, batch, slice_, collector)


async def read_unread(session: Session, ledger_name: str, slice_: Slice) -> None:
    """Read the finished tasks of one partition that were not read yet, further ones too."""
    reach, read = await session.account.reach(), session.ledger.read.unread
    unread = await asyncio.to_thread(read, ledger_name, [slice_], reach.polled)
    await read_finished(session, unread)
    await read_surplus(session, ledger_name, [slice_])


async def write_tables(
    session: Session, batch: Batch, slice_: Slice, collector: str | None = None
) -> ResultsSummary:
    """
    Write tasks, images and failures of one partition from what the ledger knows.

    Args:
        collector: The Dagster run that reports the tables; None if none does.
    """
    while True:
        summary = await _write(session, batch, slice_, RESULT_TABLES)
        reach(CrashPoint.TABLES_PUBLISHED)
        name, version = batch.ledger_name, summary.version
        if await session.ledger.mark_collected(name, slice_, version, collector):
            return summary
        # Another process published a newer version meanwhile, and these tables replaced it.


async def write_tasks(session: Session, batch: Batch, slice_: Slice) -> ResultsSummary:
    """Write only the tasks of one partition: what was sent, before anything came back."""
    return await _write(session, batch, slice_, [TASKS])


async def _write(
    session: Session, batch: Batch, slice_: Slice, tables: Collection[str]
) -> ResultsSummary:
    name = batch.ledger_name
    with_tokens = batch.delivery.public_access_tokens
    row = await asyncio.to_thread(session.ledger.read.partition, name, slice_)
    return await asyncio.to_thread(
        write_results,
        TableStore(session.settings.root, batch.name),
        slice_,
        lookup=SliceLookup(session.ledger.read, name, slice_, with_tokens=with_tokens),
        version=row.version if row else 0,
        now_us=session.clock.now_us(),
        stop_code=row.stop_code if row else None,
        url_lifetime_us=_url_lifetime_us(session, batch),
        tables=tables,
    )


def _url_lifetime_us(session: Session, batch: Batch) -> int | None:
    """Return the batch's setting, else the revision's lifetime; None where neither is known."""
    documented_s = session.client.profile.LIMITS.url_lifetime_s
    known_s = batch.delivery.url_lifetime_s
    lifetime_s = documented_s if known_s is None else known_s
    return None if lifetime_s is None else round(lifetime_s * US_PER_S)


async def _read_each(session: Session, waiting: Iterator[Awaited]) -> int:
    n_failed = 0
    for awaited in waiting:
        try:
            task = await session.client.get_task(awaited.task_id)
        except UnauthorizedError:
            raise
        except ApiError:
            n_failed += 1
            continue
        if not task.status.is_final or not await is_own(session, task, awaited):
            # The status ran ahead of the task, or the answer is another's: it is asked about again,
            # and its deadline goes on.
            await session.ledger.observe(
                Observation(
                    Source.TASK,
                    awaited.task_id,
                    session.clock.instant(),
                    awaited,
                    status=TaskStatus.PENDING,
                )
            )
            n_failed += 1
            continue
        reach(CrashPoint.RESULT_READ)
        await session.account.note_owner(task.user_id)
        now = session.clock.instant()
        await session.ledger.observe(
            Observation(Source.TASK, awaited.task_id, now, awaited, task=task)
        )
        reach(CrashPoint.RESULT_COMMITTED)
    return n_failed
