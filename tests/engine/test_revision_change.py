"""A server that changes its API revision under a running ledger: nothing is paid twice."""

from __future__ import annotations

import asyncio

import pytest

from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.engine.run import RunProgress
from tests.batches import make_batch
from tests.engine.bench import NO_LIST
from tests.factories import MODEL

CHANGES = [("2026-08", "2026-10"), ("2026-04", "2026-10"), ("2026-04", "2026-08")]
LOST = {"kind": "lost_answer", "prompt_contains": "prompt 3"}


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_tasks_of_the_old_revision_are_collected_in_the_new_one(bench_of, before, after):
    """Five tasks were open and one answer was lost when the server changed: no second POST."""
    work = bench_of(revision=before, progress="manual", faults=[LOST, NO_LIST])
    first = work.run(6, deadline_s=60.0)
    assert (first.stalled, first.unresolved, first.api_revision) == (5, 1, before)

    work.server.set_scenario(revision=after, faults=())
    work.server.complete()
    work.clock.advance(7200.0)
    second = work.run(6, deadline_s=60.0)

    assert (second.images, second.posts_sent, second.api_revision) == (6, 0, after)
    assert second.is_accounted_for
    work.require_sound(6)


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_change_while_rows_are_sent_stops_before_anything_is_created(bench_of, before, after):
    """The new server refuses the old spelling, or creates what was asked: nothing in between."""
    work = bench_of(revision=before)

    def change(*_) -> None:
        work.server.set_scenario(revision=after)

    first = work.run(6, progress=RunProgress(on_quote=change))
    second = work.run(6)

    assert first.stopped in (None, "configuration")
    assert first.images + second.posts_sent == 6
    assert (second.images, second.api_revision) == (6, after)
    work.require_sound(6)


def test_the_sensor_follows_a_server_that_changed(bench_of):
    """Each look asks for the revision anew, and sees what finished under either."""
    work = bench_of(revision="2026-08", progress="manual")
    work.run(4, deadline_s=60.0)
    work.server.set_scenario(revision="2026-10")
    work.server.complete()

    async def tick() -> tuple[int, int]:
        async with work.session() as session:
            (seen,), _ = await partition_status(
                session, make_batch("b", models=(MODEL,)), budget_s=40
            )
            return seen.n_finished, seen.n_pending

    assert asyncio.run(tick()) == (4, 0)
    assert work.n_posts == 4


def test_what_the_new_revision_cannot_express_keeps_what_was_paid_for(bench_of):
    """Rows with an output quality were delivered before; today they are refused, and stay shown."""
    rows = [{"prompt_id": f"p{n}", "prompt": f"prompt {n}", "output_quality": 80} for n in range(3)]
    work = bench_of(revision="2026-08")
    assert work.run(rows).images == 3

    work.server.set_scenario(revision="2026-10")
    report = work.run([*rows, {**rows[0], "prompt_id": "new", "prompt": "new"}])

    assert (report.images, report.posts_sent) == (3, 0)
    assert report.failures == {"invalid_output_quality": 1}
    work.require_sound(4)


def test_rows_that_were_checked_for_the_old_revision_are_kept_back_with_the_way_out(bench_of):
    """Prompts were checked, then the server changed: a row it cannot express costs nothing."""
    work = bench_of(revision="2026-08")
    rows = [
        {"prompt_id": "old", "prompt": "a", "output_quality": 80},
        {"prompt_id": "plain", "prompt": "b", "output_quality": None},
    ]

    def change(*_) -> None:
        work.server.set_scenario(revision="2026-10")

    work.run(rows, progress=RunProgress(on_prepared=change))
    report = work.run(rows)

    assert report.failures == {"invalid_output_quality": 1}
    assert report.images == 1
    work.require_sound(2)
