"""A lost request that came to nothing is proved so and sent again, once; judged by Mynth's log."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.engine.resolve import NOTHING_RESOLVED, ResolveResult, resolve_unresolved
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.models.batch import Batch
from tests.engine.bench import NO_LIST, Bench
from tests.factories import KEY, MODEL, LeapingClock

LIST, FULL = "GET /tasks", "GET /tasks/:id"
LOST = [{"kind": "reset", "every": 4, "first": 20}]
BATCH = Batch(name="b", models=(MODEL,))
MINUTE_S = 60.0


def look(work: Bench, **fields) -> ResolveResult:
    """One search, as a run or a tick of the sensor makes it."""

    async def once() -> ResolveResult:
        async with work.session() as session:
            return await resolve_unresolved(
                session, ImageWork(replace(BATCH, **fields)), BATCH.slices()
            )

    return asyncio.run(once())


def lose_five(work: Bench) -> None:
    """Forty rows, five of whose requests never arrived; from then on all is well."""
    assert work.run(40).unresolved == 5
    work.server.set_scenario(faults=())


def test_rows_whose_request_came_to_nothing_are_sent_again(new_bench):
    """Two searches after a quarter of an hour prove it; the next run completes the table."""
    work = new_bench(faults=LOST)
    lose_five(work)

    work.clock.advance(16 * MINUTE_S)
    assert look(work) == NOTHING_RESOLVED
    work.clock.advance(3 * MINUTE_S)
    assert look(work) == ResolveResult(n_not_accepted=5)
    report = work.run(40)

    assert (report.images, report.posts_sent, report.unresolved) == (40, 5, 0)
    assert len(work.log["accepted"]) == 40
    work.require_sound(40)


def test_rows_not_accepted_say_so_in_the_tables(new_bench):
    """Not charged, to be sent by the next run, and by what it was proved."""
    work = new_bench(faults=LOST)
    lose_five(work)
    for minutes in (16, 3):
        work.clock.advance(minutes * MINUTE_S)
        look(work)

    cleared = work.query("SELECT error_message FROM intents WHERE state = 'not_accepted'")

    assert len(cleared) == 5
    assert "two complete walks" in cleared[0][0]


def test_a_run_searches_and_sends_in_one_go(new_bench):
    """Nobody has to know of searches: running the same command again is enough."""
    work = new_bench(faults=LOST)
    lose_five(work)

    work.clock.advance(16 * MINUTE_S)
    assert work.run(40).unresolved == 5
    work.clock.advance(3 * MINUTE_S)

    assert work.run(40).images == 40
    work.require_sound(40)


def test_the_sensor_searches_too(new_bench):
    """Its ticks settle what waits, with nothing but free reads."""
    work = new_bench(faults=LOST)
    lose_five(work)
    n_posts = work.n_posts

    async def tick() -> None:
        async with work.session() as session:
            await partition_status(session, BATCH, budget_s=40)

    for _ in range(30):
        work.clock.advance(MINUTE_S)
        asyncio.run(tick())

    assert work.states() == {"completed": 35, "not_accepted": 5}
    assert work.n_posts == n_posts
    assert work.log["requests"][LIST] <= 10


def test_a_task_that_appears_late_in_the_list_is_found(new_bench):
    """A list that lags is no proof: its newest tasks are missing, so the witness is too."""
    work = new_bench(faults=[{**LOST[0], "kind": "lost_answer"}], quirks={"list_lag_s": 2000})
    lose_five(work)

    for minutes in (16, 3, 5):
        work.clock.advance(minutes * MINUTE_S)
        assert look(work) == NOTHING_RESOLVED
    work.clock.advance(20 * MINUTE_S)

    assert look(work) == ResolveResult(n_attached=5)
    assert work.run(40).images == 40
    assert len(work.log["accepted"]) == 40


def test_the_last_request_is_held_until_a_later_one_has_its_task(new_bench):
    """However long ago: nothing else shows that the list is not a copy from before it."""
    work = new_bench(faults=[{"kind": "reset", "prompt_contains": "prompt 2"}])
    assert work.run(3).unresolved == 1
    work.server.set_scenario(faults=())

    for _ in range(3):
        work.clock.advance(24 * 60 * MINUTE_S)
        look(work)
    work.run(3)
    assert work.states()["unresolved"] == 1
    (held,) = [row for row in work.table("failures") if row["error_code"] == "outcome_unknown"]
    assert "no task of this key that was sent after it" in held["error_message"]

    assert work.run(4).unresolved == 1
    for _ in range(2):
        work.clock.advance(24 * 60 * MINUTE_S)
        look(work)

    assert work.states() == {"completed": 3, "not_accepted": 1}


def test_a_wall_clock_that_is_set_forward_clears_nothing(new_bench):
    """A day by the wall is no time at all where the machine says otherwise."""
    work = new_bench(faults=LOST)
    lose_five(work)

    for _ in range(4):
        work.clock.jump_wall(24 * 60 * MINUTE_S)
        look(work)

    assert work.states() == {"completed": 35, "unresolved": 5}


def test_another_key_proves_nothing(new_bench):
    """A key lists its own tasks only: rows of the old key stay until it looks itself."""
    keys = [{"key": KEY}, {"key": "mak_new"}]
    work = new_bench(faults=LOST, api_keys=keys)
    lose_five(work)

    for _ in range(6):
        work.clock.advance(30 * MINUTE_S)
        assert work.run(40, settings={"api_key": "mak_new"}).unresolved == 5

    for minutes in (1, 3):
        work.clock.advance(minutes * MINUTE_S)
        look(work)
    assert work.states() == {"completed": 35, "not_accepted": 5}


def test_rows_may_be_held_for_a_person(new_bench):
    """`on_unresolved: hold` finds tasks and never clears."""
    work = new_bench(faults=LOST)
    lose_five(work)

    for _ in range(5):
        work.clock.advance(30 * MINUTE_S)
        assert look(work, on_unresolved="hold") == NOTHING_RESOLVED

    assert work.states() == {"completed": 35, "unresolved": 5}
    assert work.log["requests"][LIST] <= 6


def test_a_search_that_could_not_read_everything_proves_nothing(new_bench):
    """One task of somebody else that cannot be read might have been ours."""
    lost = {"kind": "lost_answer", "prompt_contains": "prompt 0"}
    work = new_bench(faults=[lost, *LOST, NO_LIST])
    work.run(40)
    work.server.set_scenario(faults=[{"route": FULL, "kind": "server_error"}])

    for minutes in (16, 3, 5, 5):
        work.clock.advance(minutes * MINUTE_S)
        assert look(work) == NOTHING_RESOLVED
    said = [
        why
        for (walk,) in work.query("SELECT findings FROM walks")
        for why in json.loads(walk).values()
    ]
    assert said
    assert all(said)

    work.server.set_scenario(faults=())
    work.clock.advance(10 * MINUTE_S)
    assert look(work).n_attached == 1


def test_a_run_that_waits_finds_a_response_that_was_lost_meanwhile(new_bench):
    """Nobody has to run it again: the task is found in the list, and read like the others."""
    work = new_bench(faults=[{"kind": "lost_answer", "prompt_contains": "prompt 3"}])

    assert work.run(5).images == 5
    work.require_sound(5)


@pytest.mark.parametrize("n_others", [21, 101, 199])
def test_no_task_falls_between_two_pages(new_bench, n_others, tmp_path):
    """Whatever lies above it in the list, and although more arrives while it is read."""
    lost = {"kind": "lost_answer", "prompt_contains": "prompt 3"}
    work = new_bench(faults=[lost, NO_LIST])
    assert work.run(5).unresolved == 1
    work.server.set_scenario(faults=())
    (tmp_path / "other").mkdir()
    Bench(work.server, work.clock, tmp_path / "other").run(n_others)

    assert work.run(5).images == 5
    work.require_sound(5)


@pytest.mark.parametrize("n_missing", [1, 3])
def test_a_task_that_mynth_forgot_is_lost_after_an_hour_and_not_before(new_bench, n_missing):
    """Beside tasks that it knows; the id is kept, nothing is sent again, and it may come back."""
    work = new_bench(progress="clock", latency=1e6)
    work.run(6, deadline_s=10.0)
    ids = [task_id for (task_id,) in work.query("SELECT task_id FROM intents")][:n_missing]
    gone = {"kind": "status", "status": 404, "code": "not_found"}
    faults = [
        {**gone, "route": route, "task_id": task_id}
        for task_id in ids
        for route in (FULL, "GET /tasks/:id/status")
    ]
    work.server.set_scenario(faults=[*faults, NO_LIST])

    async def tick() -> None:
        async with work.session() as session:
            await partition_status(session, BATCH, budget_s=40)

    for _ in range(4):
        asyncio.run(tick())
    assert work.states() == {"accepted": 6}
    work.clock.advance(61 * MINUTE_S)
    asyncio.run(tick())

    assert work.states() == {"accepted": 6 - n_missing, "lost": n_missing}
    report = work.run(6, deadline_s=10.0)
    assert report.posts_sent == 0
    assert sum(row["error_code"] == "task_lost" for row in work.table("failures")) == n_missing


def test_an_outage_of_all_tasks_makes_none_lost(new_bench, clock: LeapingClock):
    """Where no task can be read there is no witness: the server may be the wrong one."""
    work = new_bench(progress="clock", latency=1e6)
    work.run(3, deadline_s=10.0)
    gone = {"kind": "status", "status": 404, "code": "not_found", "route": "*"}
    work.server.set_scenario(faults=[gone])

    async def tick() -> None:
        async with work.session() as session:
            await partition_status(session, BATCH, budget_s=40)

    for _ in range(5):
        asyncio.run(tick())
        clock.advance(30 * MINUTE_S)

    assert work.states() == {"accepted": 3}
