"""
Is it the right ledger? Asked before anything is spent.

A ledger that does not know what was paid for would pay for it again: another one, an older copy
put back, or a new one where the tables of a lost one still lie.
"""

from __future__ import annotations

import asyncio
import shlex

from mynth_dagster.engine.session import Session
from mynth_dagster.engine.walk import ListWalk
from mynth_dagster.errors import LedgerMismatchError
from mynth_dagster.models.batch import Batch
from mynth_dagster.tables.manifest import LedgerMark, has_results, read_mark, write_mark
from mynth_dagster.tables.store import TASKS, TableStore

NEWEST_PAGES = 2
"""Of the task list, read before a run pays, where no task on them is known."""

REBUILDING = "rebuild"
"""Who sends into partitions that are being put back: nobody."""


async def require_right_ledger(session: Session, batch: Batch) -> None:
    """
    Compare the ledger with the mark beside the tables, and renew the mark.

    Raises:
        LedgerMismatchError: The tables know another ledger, or this one when it knew more; or
            the newest tasks at Mynth carry intents of this ledger that it does not know.
    """
    store = TableStore(session.settings.root, batch.name)
    known = await asyncio.to_thread(session.ledger.read.partitions, batch.ledger_name)
    if any(row.submitter == REBUILDING for row in known):
        raise LedgerMismatchError(
            "The ledger is half made: a rebuild was cut off. Nothing was sent: rows that it does "
            f"not know yet would be paid for again. Run `{rebuild_command(session, batch)}` again."
        )
    mark = await asyncio.to_thread(read_mark, store)
    number = await session.ledger.newest_number()
    knows_batch, ledger_id = bool(known), session.ledger.ledger_id
    reason = await asyncio.to_thread(
        _mismatch, LedgerMark(ledger_id, number), batch, store, mark, knows_batch=knows_batch
    )
    if reason is not None:
        raise LedgerMismatchError(
            f"{reason} {_put_back(session, batch)} If this one is what you want, run "
            f"`{_command('adopt', session, batch)}`. Both need --ledger URL where the ledger does "
            "not lie in the root."
        )
    await _require_newest_known(session, batch)
    await mark_tables(session, batch)


async def _require_newest_known(session: Session, batch: Batch) -> None:
    """
    A ledger that was put back together with its tables cannot be told by their mark.

    The tasks that it sent after the copy was made lie on top of the list, above all that it knows.
    """
    profile = session.client.profile
    if not profile.HAS_TASK_LIST:
        return
    walk = ListWalk(
        session,
        batch,
        page_size=profile.LIMITS.list_page_max,
        older_than_no=await session.ledger.newest_number() + 1,
    )
    await walk.go(n_pages=NEWEST_PAGES)
    if walk.unknown_intents:
        raise LedgerMismatchError(
            f"Mynth lists a task of the ledger {session.ledger.ledger_id} that it does not know "
            f"({walk.unknown_intents[0]}): an older copy was put back. {_put_back(session, batch)}"
        )


def _put_back(session: Session, batch: Batch) -> str:
    return (
        "Nothing was sent: rows that this ledger does not know would be paid for again. Put the "
        "right ledger back. If it is lost, name a new, empty one, or move this one's file away, "
        f"and run `{rebuild_command(session, batch)}`."
    )


def rebuild_command(session: Session, batch: Batch) -> str:
    """The command that makes the ledger of this batch, or of the looks at it, anew."""
    table = "" if batch.inspection is None else f"/{batch.inspection.kind.table}"
    identity = batch.ledger_name.removesuffix(table)
    named = "" if identity == batch.name else f" --identity {shlex.quote(identity)}"
    return _command("rebuild", session, batch) + named


def _command(doing: str, session: Session, batch: Batch) -> str:
    root = shlex.quote(session.settings.root)
    return f"mynth-dagster ledger {doing} --root {root} --batch {batch.name}"


async def mark_tables(session: Session, batch: Batch) -> None:
    """Say beside the tables which ledger they belong to, and how much it knows now."""
    store = TableStore(session.settings.root, batch.name)
    mark = LedgerMark(session.ledger.ledger_id, await session.ledger.newest_number())
    await asyncio.to_thread(write_mark, store, mark)


def _mismatch(
    ours: LedgerMark, batch: Batch, store: TableStore, mark: LedgerMark | None, *, knows_batch: bool
) -> str | None:
    ledger_id, number, where = ours.ledger_id, ours.number, store.batch_folder
    # A rebuilt ledger has the mark's id and may know the images without the looks at them.
    table = TASKS if batch.inspection is None else batch.inspection.kind.table
    may_be_unknown = mark is None or batch.inspection is not None
    if may_be_unknown and not knows_batch and has_results(store, table):
        return f"{where}/{table} holds results, the ledger {ledger_id} knows nothing of them."
    if mark is None:
        return None
    if mark.ledger_id != ledger_id:
        return f"The tables in {where} belong to the ledger {mark.ledger_id}, this is {ledger_id}."
    if mark.number > number:
        return (
            f"The ledger {ledger_id} knew more when it wrote the tables in {where} "
            f"(number {mark.number}) than it knows now ({number}): an older copy was put back."
        )
    return None
