"""The ledger goes by its indexes: what is asked for a few rows never reads all of them."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.ledger import Ledger
from mynth_dagster.models.batch import Slice
from tests.batches import make_batch
from tests.engine.bench import Bench
from tests.factories import MODEL

GROWS_WITH_ROWS = ("intents", "tasks", "observations", "attempts", "downloads")


@contextmanager
def statements() -> Iterator[dict[str, Any]]:
    """Those that are run meanwhile, each with the values of one time."""
    seen: dict[str, Any] = {}

    def note(_connection, _cursor, statement, parameters, _context, is_many):
        seen.setdefault(statement, parameters[0] if is_many else parameters)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


def scans(path: str, seen: dict[str, Any]) -> list[tuple[str, str]]:
    """Steps of SQLite's plans that read a whole growing table, with their statements."""
    reads_all = re.compile(rf"SCAN ({'|'.join(GROWS_WITH_ROWS)})\b")
    connection = sqlite3.connect(path)
    found = []
    for statement, values in seen.items():
        if re.match("SELECT|UPDATE|INSERT|DELETE|WITH", statement):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            found += [(str(step[3]), statement) for step in plan if reads_all.match(step[3])]
    connection.close()
    return found


def _tick(work: Bench) -> None:
    async def once() -> None:
        async with work.session() as session:
            await partition_status(session, make_batch("b", models=(MODEL,)), budget_s=5)

    asyncio.run(once())


def test_a_run_reads_no_table_of_the_ledger_whole(new_bench):
    """From planning to tables and a tick, with an edited table, a task too many, lost answers."""
    work = new_bench(faults=[{"kind": "lost_answer", "first": 2}])
    Ledger.open(work.ledger_url).close()
    with statements() as seen:
        work.run(40)
        work.post_again(work.log["accepted"][0])
        work.look_for_tasks()
        work.run(41)
        _tick(work)

    assert len(seen) > 40
    assert scans(work.ledger_url.removeprefix("sqlite:///"), seen) == []


def test_a_tick_does_not_name_every_partition_of_the_batch(new_bench):
    """A database takes so many values in one statement: years of hourly windows are more."""
    work = new_bench()
    ledger = Ledger.open(work.ledger_url)
    slices = [Slice(window=f"{n:05d}") for n in range(500)]
    asyncio.run(ledger.open_partitions("b", slices, "run"))
    asyncio.run(ledger.close_partitions("b", slices, None))
    ledger.close()

    with statements() as seen:
        _tick(work)

    assert max(len(values) for values in seen.values()) < 100
