"""Several of us at once: one of them sends a row, whoever that is."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pyarrow as pa
import pytest

from mynth_dagster.crash_points import EVENT
from mynth_dagster.engine.run import RunProgress, collect, prepare
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from mynth_dagster.tables.source import source_from_arrow
from tests.batches import make_batch
from tests.engine.bench import prompts
from tests.factories import MODEL
from tests.faults.stage import MINUTE_S, Stage

BATCH = make_batch("b", models=(MODEL,))


def both(*operations) -> list[Any]:
    """Start all at one barrier, each in a thread of its own; what they returned or raised."""
    barrier, results = threading.Barrier(len(operations)), [None] * len(operations)

    def call(place: int) -> None:
        barrier.wait(30)
        try:
            results[place] = operations[place]()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(operations))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    return results


@pytest.mark.parametrize("n_runs", [2, 3])
def test_runs_of_one_partition_at_once_pay_each_row_once(new_stage, n_runs):
    """They share the rows between them."""
    work = new_stage()

    both(*[lambda: work.run(60)] * n_runs)

    assert work.n_posts == 60
    work.finish(60)


def test_a_sensor_and_two_collections_at_once_write_one_table(new_stage):
    """Whoever is last writes the same as whoever was first."""
    work = new_stage(progress="manual")
    stop = CancelToken()
    work.run(20, stop=stop, progress=RunProgress(on_round=lambda _: stop.set(CANCELLED)))
    work.server.complete()

    results = both(work.tick, lambda: work.run(20), lambda: work.run(20))

    assert [result for result in results if isinstance(result, Exception)] == []
    assert work.n_posts == 20
    work.finish(20)


def test_materializing_again_while_tasks_run_attaches_to_them(new_stage):
    """The second run sends nothing and waits for the same tasks."""
    work = new_stage(progress="clock", latency=60)
    stop = CancelToken()
    work.run(10, stop=stop, progress=RunProgress(on_round=lambda _: stop.set(CANCELLED)))

    report = work.run(10)

    assert (report.posts_sent, report.images) == (0, 10)
    work.finish(10)


class Freezer:
    """Stops a thread at a crash point, as the system may stop a process, until it is let go."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.point = ""
        self.n_to_pass = 0
        self.is_reached = threading.Event()
        self.may_go = threading.Event()
        sys.addaudithook(self._hook)

    def arm(self, point: str) -> None:
        """Freeze whoever calls this, at its first arrival at the point."""
        self.thread, self.point = threading.get_ident(), point

    def arm_for_anyone(self, point: str, *, n_to_pass: int) -> None:
        """Freeze whoever arrives at the point after so many others."""
        self.thread, self.point, self.n_to_pass = None, point, n_to_pass

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event != EVENT or args[0] != self.point:
            return
        self.n_to_pass -= 1
        if self.n_to_pass < 0 and self.thread in (None, threading.get_ident()):
            self.point = ""
            self.is_reached.set()
            self.may_go.wait(100)


def test_a_process_that_wakes_after_its_row_was_cleared_and_sent_sends_nothing(new_stage):
    """Frozen for hours between the commit of an intent and its request: its time is over."""
    work = new_stage()
    work.run(3)
    freezer = Freezer()

    def frozen() -> None:
        freezer.arm("INTENT_COMMITTED")
        work.run(4)

    thread = threading.Thread(target=frozen)
    thread.start()
    assert freezer.is_reached.wait(60)
    for minutes in (5, 70, 5, 1):
        work.clock.advance(minutes * MINUTE_S)
        work.run(4)
        work.send_later()
    prompts = [entry["prompt"] for entry in work.log["accepted"]]
    assert prompts.count("prompt 3") == 1
    freezer.may_go.set()
    thread.join(100)

    assert [entry["prompt"] for entry in work.log["accepted"]] == prompts
    work.finish(4)


def test_tables_that_are_published_late_give_way_to_newer_ones(new_stage):
    """A collection is held up between writing and publishing; the next overtakes it."""
    work = new_stage()
    freezer = Freezer()
    freezer.arm_for_anyone("TABLES_STAGED", n_to_pass=1)  # the prompts
    held_up = threading.Thread(target=lambda: work.run(3))
    held_up.start()
    assert freezer.is_reached.wait(60)

    work.run(4)
    freezer.may_go.set()
    held_up.join(100)

    assert {len(work.table(name)) for name in ("tasks", "images")} == {4}
    work.finish(4)


def test_prompts_that_appear_behind_a_collection_make_its_tables_old(new_stage):
    """A collection that ran between the announcement of new prompts and their publication."""
    work = new_stage()
    work.run(3)
    freezer = Freezer()
    freezer.arm_for_anyone("TABLES_STAGED", n_to_pass=0)
    held_up = threading.Thread(target=lambda: asyncio.run(_prepare(work, 4)))
    held_up.start()
    assert freezer.is_reached.wait(60)
    asyncio.run(_collect(work))
    assert work.query("SELECT version - collected FROM partitions") == [(0,)]

    freezer.may_go.set()
    held_up.join(100)

    assert work.query("SELECT version - collected FROM partitions") == [(1,)]
    work.finish(4)


async def _prepare(work: Stage, n_rows: int) -> None:
    source = source_from_arrow(pa.Table.from_pylist(prompts(n_rows)), "prompts")
    async with work.session() as session:
        await prepare(session, BATCH, source, window="")


async def _collect(work: Stage) -> None:
    async with work.session() as session:
        async for _ in collect(session, BATCH, BATCH.slices()):
            pass


def test_two_writers_of_one_sqlite_file_wait_for_each_other(new_stage: Any):
    """Two runs of different tables in one ledger: neither fails for a lock."""
    work: Stage = new_stage()

    results = both(lambda: work.run(40), lambda: work.run(40, name="other"))

    assert [result for result in results if isinstance(result, Exception)] == []
    assert work.n_posts == 80
    work.finish(40)
