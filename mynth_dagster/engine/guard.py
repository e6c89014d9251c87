"""
Is it the right ledger? Asked before anything is spent.

A ledger that does not know what was paid for would pay for it again: another one, an older copy
put back, or a new one where the tables of a lost one still lie.
"""

from __future__ import annotations

import asyncio

from mynth_dagster.engine.session import Session
from mynth_dagster.errors import LedgerMismatchError
from mynth_dagster.models.batch import Batch
from mynth_dagster.tables.files import TASKS, TableStore
from mynth_dagster.tables.ledger_mark import LedgerMark, has_results, read_mark, write_mark

REBUILD = "mynth-dagster ledger rebuild"
ADOPT = "mynth-dagster ledger adopt"


async def require_right_ledger(session: Session, batch: Batch) -> None:
    """
    Compare the ledger with the mark beside the tables, and renew the mark.

    Raises:
        LedgerMismatchError: The tables know another ledger, or this one when it knew more.
    """
    store = TableStore(session.settings.root, batch.name)
    mark = await asyncio.to_thread(read_mark, store)
    number = await session.ledger.newest_number()
    reason = await asyncio.to_thread(_mismatch, session, batch, store, mark, number)
    if reason is not None:
        raise LedgerMismatchError(
            f"{reason} Nothing was sent: rows that this ledger does not know would be paid for "
            f"again. Put the right ledger back, or rebuild this one (`{REBUILD}`); if it is what "
            f"you want, `{ADOPT}`."
        )
    await mark_tables(session, batch)


async def mark_tables(session: Session, batch: Batch) -> None:
    """Say beside the tables which ledger they belong to, and how much it knows now."""
    store = TableStore(session.settings.root, batch.name)
    mark = LedgerMark(session.ledger.ledger_id, await session.ledger.newest_number())
    await asyncio.to_thread(write_mark, store, mark)


def _mismatch(
    session: Session, batch: Batch, store: TableStore, mark: LedgerMark | None, number: int
) -> str | None:
    ledger_id, where = session.ledger.ledger_id, store.batch_folder
    # A rebuilt ledger has the mark's id and may know the images without the looks at them.
    table = TASKS if batch.inspection is None else batch.inspection.kind.table
    if mark is None or batch.inspection is not None:
        knows_nothing = not session.ledger.read.partitions(batch.ledger_name)
        if knows_nothing and has_results(store, table):
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
