"""Ticks that are too short for everything: each goes on where the one before stopped."""

from __future__ import annotations

import asyncio

import pytest

from mynth_dagster.engine import reconcile
from mynth_dagster.engine.reconcile import in_stages, partition_status
from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.ledger.queries import Moving
from tests.batches import make_batch
from tests.factories import MODEL

BATCH = make_batch("b", models=(MODEL,), fan_out=6)
PLACES = [("", f"{n:03d}") for n in range(6)]


def test_stages_go_round_once_from_where_the_last_pass_ended():
    """Every partition with a pending task once; idle ones are left out."""
    moving = {place: Moving(n_pending=10) for place in PLACES}
    moving[PLACES[2]] = Moving(n_finished=3, n_sending=2)
    moving[PLACES[4]] = Moving(n_stalled=1)

    visited = [place for stage in in_stages(moving, PLACES[3]) for place in stage]

    assert visited == [PLACES[4], PLACES[5], PLACES[0], PLACES[1], PLACES[3]]


@pytest.mark.parametrize("after", [None, PLACES[5], ("zzz", "zzz")])
def test_a_pass_that_ended_or_whose_end_is_gone_begins_at_the_first(after):
    """Nothing is left out because a partition vanished meanwhile."""
    moving = {place: Moving(n_pending=1) for place in PLACES}

    assert [place for stage in in_stages(moving, after) for place in stage] == PLACES


def test_stages_are_bounded_and_a_large_partition_is_one_of_its_own(monkeypatch):
    """What is in memory at a time does not grow with the number of partitions."""
    monkeypatch.setattr(reconcile, "STAGE_TASKS", 20)
    moving = {place: Moving(n_pending=30 if n == 3 else 10) for n, place in enumerate(PLACES)}

    assert [len(stage) for stage in in_stages(moving, None)] == [2, 2, 2]


def test_ticks_that_are_too_short_reach_every_partition_in_turn(new_bench, clock, monkeypatch):
    """Each has time for one partition of six: after six ticks everything is noticed."""
    work = new_bench(progress="manual")
    monkeypatch.setattr(reconcile, "STAGE_TASKS", 1)
    monkeypatch.setattr(reconcile, "STAGES_AT_ONCE", 1)
    stop = CancelToken()

    def cancel_before_waiting(phase: str) -> None:
        stop.is_cancelled = phase == "wait"

    work.run(60, stop=stop, progress=RunProgress(on_phase=cancel_before_waiting), fan_out=6)
    work.server.complete()

    async def read_slowly(session, batch, slices):
        clock.advance(30)
        return await plainly(session, batch, slices)

    plainly = reconcile._awaited
    monkeypatch.setattr(reconcile, "_awaited", read_slowly)

    async def tick() -> tuple[int, bool]:
        async with work.session() as session:
            watched, is_complete = await partition_status(session, BATCH, budget_s=40)
            return sum(p.n_finished > 0 for p in watched), is_complete

    seen = [asyncio.run(tick()) for _ in range(6)]

    assert [n for n, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1][1]
    assert work.query("SELECT value FROM meta WHERE key LIKE 'sensor:%'") == [("",)]
