"""
One look at all open partitions of a batch, for the completion sensor: only free reads.

It polls pending tasks within a time budget, remembers in the ledger what it learned, and says
which partitions are settled and behind their version.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mynth_dagster.engine.announced import hearing_of, is_due_by, note_unannounced
from mynth_dagster.engine.collect import read_surplus
from mynth_dagster.engine.inbox import work_inbox
from mynth_dagster.engine.poll import Poller
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.settle import expire_interrupted, settle
from mynth_dagster.ledger.reader import PartitionRow
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.transitions import STALLED, IntentState


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
    """

    slice: Slice
    version: int
    n_pending: int
    n_sending: int
    n_finished: int
    n_stalled: int
    is_behind: bool
    submitter: str | None

    @property
    def is_settled(self) -> bool:
        """Nothing current is moving; who sends is for the caller to judge."""
        return self.n_pending == 0 and self.n_sending == 0


async def watch(
    session: Session, batch: Batch, *, budget_s: float
) -> tuple[list[WatchedPartition], bool]:
    """
    Work the inbox, poll what is pending and tell the state of every open partition.

    Returns the open partitions, and whether the budget was enough to ask about all of them.

    Raises:
        UnauthorizedError: The key is refused.
        AccountMismatchError: The key is another account's; nothing was asked.
    """
    await session.account.number()
    until_s = session.clock.elapsed_s() + budget_s
    reader, name = session.ledger.read, batch.ledger_name
    rows = await asyncio.to_thread(reader.partitions, name)
    slices = [batch.slice(row.window, row.fan_out) for row in rows]
    await expire_interrupted(session, batch, sorted({slice_.window for slice_ in slices}))
    await work_inbox(session, batch, until_s=until_s)
    await settle(session, batch, slices, until_s=until_s - budget_s / 2)
    moving = [IntentState.ACCEPTED, IntentState.SENDING]
    intents = await asyncio.to_thread(reader.intents_in, name, slices, moving)
    accepted = [intent for intent in intents if intent.state is IntentState.ACCEPTED]
    hearing = await hearing_of(session, batch)
    is_due = is_due_by(hearing, batch, session.clock.now_us())
    found = await Poller(session, until_s).run(accepted, is_due)
    await note_unannounced(session, batch, hearing, len(found.finished))
    await read_surplus(session, batch, slices)
    finished = {intent.intent_id for intent in found.finished}
    now_us = session.clock.now_us()
    rows = await asyncio.to_thread(reader.partitions, name)
    open_ = _watched(batch, rows, intents, finished, now_us)
    return [p for p in open_ if p.is_behind or not p.is_settled], found.is_complete


def _watched(
    batch: Batch,
    rows: Iterable[PartitionRow],
    intents: Iterable[Intent],
    finished: set[str],
    now_us: int,
) -> list[WatchedPartition]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for intent in intents:
        counts[intent.row.window, intent.fan_out, _kind(intent, finished, now_us)] += 1
    return [
        WatchedPartition(
            slice=batch.slice(row.window, row.fan_out),
            version=row.version,
            n_pending=counts[row.window, row.fan_out, "pending"],
            n_sending=counts[row.window, row.fan_out, "sending"],
            n_finished=counts[row.window, row.fan_out, "finished"],
            n_stalled=counts[row.window, row.fan_out, STALLED],
            is_behind=_is_behind(batch, row, counts),
            submitter=row.submitter,
        )
        for row in rows
    ]


def _is_behind(batch: Batch, row: PartitionRow, counts: Counter[tuple[str, str, str]]) -> bool:
    has_unread = counts[row.window, row.fan_out, "finished"] > 0
    shown = row.collected if batch.files is None else min(row.collected, row.filed)
    return shown < row.version or has_unread


def _kind(intent: Intent, finished: set[str], now_us: int) -> str:
    if intent.state is IntentState.SENDING:
        return "sending"
    if intent.is_finished_remotely or intent.intent_id in finished:
        return "finished"
    return STALLED if intent.shown_status(now_us) == STALLED else "pending"
