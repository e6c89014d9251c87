"""
One look at all open partitions of a batch, for the completion sensor: only free reads.

It polls pending tasks within a time budget, remembers in the ledger what it learned, and says
which partitions are settled and behind their version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mynth_dagster.engine.collect import read_surplus
from mynth_dagster.engine.inbox import work_inbox
from mynth_dagster.engine.resend import Reason, reasons_to_resend
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.settle import expire_interrupted, settle
from mynth_dagster.engine.tour import Tour
from mynth_dagster.ledger.queries import Moving, PartitionRow
from mynth_dagster.models.batch import Batch, Slice


@dataclass(frozen=True)
class WatchedPartition:
    """
    One partition as of now.

    Args:
        n_pending: Tasks that are running at Mynth, before their deadline.
        n_sending: Deliveries in flight.
        is_behind: The ledger knows more than the tables show, or images of theirs were not
            dealt with whose files are to be kept.
        submitter: The run that is sending into it, if any.
        resend: Why rows of it may be sent again by themselves; None where they may not.
        collector: The run that wrote its tables, as long as nobody looked whether it told so.
    """

    slice: Slice
    version: int
    n_pending: int
    n_sending: int
    n_finished: int
    n_stalled: int
    is_behind: bool
    submitter: str | None
    resend: Reason | None = None
    collector: str | None = None

    @property
    def is_open(self) -> bool:
        """Something of it is moving, or not shown yet."""
        return self.is_behind or not self.is_settled

    @property
    def is_settled(self) -> bool:
        """Nothing current is moving; who sends is for the caller to judge."""
        return self.n_pending == 0 and self.n_sending == 0


async def watch(
    session: Session, batch: Batch, *, budget_s: float
) -> tuple[list[WatchedPartition], bool]:
    """
    Work the inbox, poll what is pending and tell the state of every open partition.

    Returns the partitions that are open, have rows to be sent again, or whose tables may not have
    been told of, and whether the budget was
    enough to ask about all of them; where it was not, the next watch goes on behind the last
    partition that was asked about.

    Raises:
        UnauthorizedError: The key is refused.
        AccountMismatchError: The key is another account's; nothing was asked.
    """
    until_s = session.clock.elapsed_s() + budget_s
    await session.account.number()
    reader, name = session.ledger.read, batch.ledger_name
    moving = await _moving(session, name)
    sending = sorted({window for (window, _), counts in moving.items() if counts.n_sending})
    await expire_interrupted(session, batch, sending)
    await work_inbox(session, batch, until_s=until_s)
    await settle(session, batch, None, until_s=until_s - budget_s / 2)
    is_complete = await Tour(session, batch, until_s).go(await _moving(session, name))
    await read_surplus(session, batch, None, until_s=until_s)
    rows = await asyncio.to_thread(reader.partitions, name)
    resting = await asyncio.to_thread(session.ledger.resting.resting, name)
    stops = await asyncio.to_thread(session.ledger.stops.active)
    reasons = reasons_to_resend(rows, resting, stops)
    watched = _watched(batch, rows, await _moving(session, name), reasons)
    return [p for p in watched if p.is_open or p.resend or p.collector], is_complete


async def _moving(session: Session, name: str) -> dict[tuple[str, str], Moving]:
    reach, now_us = await session.account.reach(), session.clock.now_us()
    return await asyncio.to_thread(session.ledger.read.moving, name, now_us, reach.asked)


def _watched(
    batch: Batch,
    rows: Iterable[PartitionRow],
    moving: Mapping[tuple[str, str], Moving],
    reasons: Mapping[tuple[str, str], Reason],
) -> list[WatchedPartition]:
    watched = []
    for row in rows:
        place = row.window, row.fan_out
        counts = moving.get(place, Moving())
        watched.append(
            WatchedPartition(
                slice=batch.slice(row.window, row.fan_out),
                version=row.version,
                n_pending=counts.n_pending,
                n_sending=counts.n_sending,
                n_finished=counts.n_finished,
                n_stalled=counts.n_stalled,
                is_behind=_is_behind(batch, row, counts),
                submitter=row.submitter,
                resend=reasons.get(place),
                collector=row.collected_by,
            )
        )
    return watched


def _is_behind(batch: Batch, row: PartitionRow, counts: Moving) -> bool:
    shown = row.collected if batch.files is None else min(row.collected, row.filed)
    return shown < row.version or counts.n_finished > 0
