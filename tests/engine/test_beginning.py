"""When a wish to pay again was uttered first: kept as long as somebody may take it up again."""

from __future__ import annotations

import asyncio

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, KEPT_US, RunOptions, resume_options
from tests.batches import make_batch
from tests.factories import MODEL

BATCH = make_batch("b", models=(MODEL,))


def utter(work, wish: str, options: RunOptions) -> int | None:
    """Utter a wish in a session of its own; when it was uttered first."""

    async def once() -> int | None:
        async with work.session() as session:
            return (await resume_options(session, "b", options, wish)).begun_at_us

    return asyncio.run(once())


def kept(work) -> list[str]:
    return [
        key for (key,) in work.query("SELECT key FROM meta WHERE key LIKE 'begun:%' ORDER BY 1")
    ]


def test_a_beginning_is_kept_for_thirty_days_and_then_forgotten_by_the_next(new_bench):
    """The ledger does not grow with every retry there ever was."""
    work, again = new_bench(), RunOptions(force=True)
    first = utter(work, "old", again)
    work.clock.advance(KEPT_US / US_PER_S - 60)

    assert utter(work, "old", again) == first
    utter(work, "new", again)
    assert kept(work) == ["begun:b:new", "begun:b:old"]
    work.clock.advance(120)
    utter(work, "newer", again)

    assert kept(work) == ["begun:b:new", "begun:b:newer"]


def test_a_beginning_that_is_taken_up_late_is_not_forgotten_by_itself(new_bench):
    """Else its rows would be paid for once more."""
    work, again = new_bench(), RunOptions(force=True)
    first = utter(work, "old", again)
    work.clock.advance(2 * KEPT_US / US_PER_S)

    assert utter(work, "old", again) == first


def test_a_run_that_pays_for_nothing_again_leaves_no_trace(new_bench):
    """Most runs."""
    work = new_bench()

    assert utter(work, "plain", DEFAULT_RUN_OPTIONS) is None
    assert kept(work) == []
