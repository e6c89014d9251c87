"""
Where a lost response is found, and when absence is proof.

First pure decisions about walks and unresolved rows; then whole searches, judged by Mynth's log.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.engine.lost_responses import (
    NOTHING_RESOLVED,
    ResolveResult,
    is_not_accepted,
    is_walk_due,
    next_page_size,
    resolve_unresolved,
    why_not_absent,
)
from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.models.intent import KnownTask, StrangeTask, Trail, UnresolvedIntent, Walk
from tests.batches import make_batch
from tests.engine.bench import NO_LIST, Bench
from tests.factories import KEY, MODEL, LeapingClock, make_intent

MINUTE_US = 60 * US_PER_S
SINCE = Instant(1_000 * MINUTE_US, 100 * MINUTE_US, "boot")
INTENT = make_intent()
DOUBT = UnresolvedIntent(INTENT, account=1, claimed_seq=10, since=SINCE, unresolved_seq=20)


def at(minutes: float, *, wall: float | None = None) -> Instant:
    """So long after the doubt began, by the boot clock; the wall clock may say otherwise."""
    passed_us = round(minutes * MINUTE_US)
    wall_us = passed_us if wall is None else round(wall * MINUTE_US)
    return Instant(SINCE.wall_us + wall_us, (SINCE.boot_us or 0) + passed_us, "boot")


def ours(claimed_seq: int, accepted_seq: int | None = None, *, minutes: float = 0) -> KnownTask:
    """A task of ours, known one number after its claim."""
    claimed_at_us = SINCE.wall_us + round(minutes * MINUTE_US)
    known_no = claimed_seq + 1 if accepted_seq is None else accepted_seq
    return KnownTask(replace(INTENT, claimed_at_us=claimed_at_us), claimed_seq, known_no)


def trail(*listed: KnownTask | StrangeTask | None, **fields: object) -> Trail:
    """A walk over these entries, newest first; None is somebody else's task."""
    made = Trail(100, n_places=len(listed))
    for place, task in enumerate(listed):
        if isinstance(task, KnownTask):
            made.known.append((place, task))
        elif task is not None:
            made.strange.append((place, task))
    return replace(made, **fields)


UNREAD = StrangeTask("tsk_x", "image.generate", "is in the list and cannot be read")
UNTAGGED = StrangeTask("tsk_y", "image.generate", "has no tag", content="a red kite")
AFTER, DURING, BEFORE = ours(21), ours(9, 15), ours(5)


def why_not(
    seen: Trail, *, minutes: float = 15, doubt: UnresolvedIntent = DOUBT, account: int = 1
) -> str:
    began = at(minutes)
    return why_not_absent(doubt, seen, began=began, account=account, content="a red kite")


@pytest.mark.parametrize(
    "seen",
    [
        trail(AFTER, BEFORE),
        trail(None, AFTER, None, DURING, None, BEFORE),
        trail(AFTER, is_at_end=True),
        trail(AFTER, BEFORE, UNREAD),
        trail(UNREAD, ours(30, minutes=16), AFTER, BEFORE),
        trail(AFTER, replace(UNREAD, type="image.upscale"), BEFORE),
        trail(AFTER, replace(UNTAGGED, content="a boat"), BEFORE),
    ],
    ids=["bracket", "others between", "end", "below", "much later", "another type", "other prompt"],
)
def test_a_bracket_without_a_candidate_proves_absence(seen):
    """Ours from before and after, and nothing between them that could be its task."""
    assert why_not(seen) == ""


@pytest.mark.parametrize(
    ("seen", "because"),
    [
        (trail(BEFORE), "no task of this key that was sent after it"),
        (trail(is_at_end=True), "no task of this key that was sent after it"),
        (trail(ours(20), BEFORE), "no task of this key that was sent after it"),
        (trail(AFTER), "no task of this key from before it"),
        (trail(AFTER, DURING), "no task of this key from before it"),
        (trail(AFTER, KnownTask(INTENT, 5, None)), "no task of this key from before it"),
        (trail(AFTER, BEFORE, flaw="the list is not in order"), "not in order"),
        (trail(AFTER, BEFORE, tag_flaw="no tag"), "no tag"),
        (trail(AFTER, UNREAD, BEFORE), "tsk_x is in the list"),
        (trail(UNREAD, AFTER, BEFORE), "tsk_x is in the list"),
        (trail(UNREAD, ours(30, minutes=14), BEFORE), "tsk_x is in the list"),
        (trail(AFTER, DURING, UNREAD, is_at_end=True), "tsk_x is in the list"),
        (trail(AFTER, replace(UNREAD, type="image.later"), BEFORE), "tsk_x is in the list"),
        (trail(AFTER, UNTAGGED, BEFORE), "tsk_y has no tag"),
    ],
)
def test_what_is_not_bracketed_is_held_with_the_reason(seen, because):
    """Each condition alone keeps the row in doubt, in words for a person."""
    assert because in why_not(seen)


def test_neither_haste_nor_another_key_nor_a_dispute_clears():
    """What the walk saw is good enough; who looked, and when, is not."""
    seen = trail(AFTER, BEFORE)

    assert "searched before 15 min" in why_not(seen, minutes=14.9)
    assert "only the key that sent it" in why_not(seen, account=2)
    assert "carries its id" in why_not(seen, doubt=replace(DOUBT, is_disputed=True))
    assert why_not(seen, doubt=replace(DOUBT, since=None)) != ""


def test_follow_ups_need_no_tags():
    """Their tasks never carry one: they are recognised by what they are about."""
    looking = replace(DOUBT, intent=replace(INTENT, model="image.rate"))
    seen = trail(AFTER, UNREAD, BEFORE, tag_flaw="no tag")

    assert why_not(seen, doubt=looking) == ""
    unread = replace(UNREAD, type="image.rate")
    assert "tsk_x" in why_not(trail(AFTER, unread, BEFORE), doubt=looking)


def walk(minutes: float, size: int = 100, *, said: str = "", **fields: object) -> Walk:
    made = Walk(1, size, at(minutes), at(minutes + 0.1), {INTENT.intent_id: said})
    return replace(made, **fields)


FIRST, SECOND = walk(15), walk(18, 73)


def test_two_walks_that_agree_clear_a_row():
    """Fifteen minutes, then two more, pages of two sizes."""
    assert is_not_accepted(DOUBT, [FIRST, SECOND])


@pytest.mark.parametrize(
    ("walks", "because"),
    [
        ([FIRST], "one walk alone"),
        ([walk(15), walk(18)], "the same page size twice"),
        ([walk(14.9), walk(18, 73)], "the first too soon"),
        ([walk(15), walk(16.9, 73)], "too close together"),
        ([walk(15), walk(18, 73, account=2)], "another key's list"),
        ([walk(15), walk(18, 73, said="no later task")], "the second proves nothing"),
        ([walk(15), replace(SECOND, findings={})], "the second did not search for it"),
        ([walk(15, began=at(1, wall=15)), SECOND], "a wall clock set forward"),
        ([FIRST, walk(18, 73, began=at(15.2, wall=90))], "set forward between the two"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_less_proves_nothing(walks, because):
    """Each condition alone keeps the row in doubt."""
    assert not is_not_accepted(DOUBT, walks)


def test_a_disputed_row_is_never_cleared():
    """A task that names it with another hash is a riddle for a person."""
    assert not is_not_accepted(replace(DOUBT, is_disputed=True), [FIRST, SECOND])


def test_a_request_that_may_still_leave_is_never_cleared():
    """Its process may be alive: there is nothing to measure from."""
    sending = replace(DOUBT, since=None)

    assert not is_not_accepted(sending, [FIRST, SECOND])
    assert is_walk_due(sending, [FIRST], at(1), marks_absent=True)


@pytest.mark.parametrize(
    ("walks", "minutes", "is_due"),
    [
        ([], 0, True),
        ([walk(1)], 2, False),
        ([walk(1)], 15, True),
        ([walk(15)], 16, False),
        ([walk(15)], 17.2, True),
        ([walk(15, said="no later task")], 17.2, False),
        ([walk(15, said="no later task")], 21, True),
    ],
)
def test_walks_are_made_when_they_can_prove_something(walks, minutes, is_due):
    """At once for evidence, later for proof, and seldom where they proved nothing."""
    assert is_walk_due(DOUBT, walks, at(minutes), marks_absent=True) is is_due


def test_where_rows_are_held_one_search_is_enough():
    """What cannot lead to anything is not content for."""
    assert is_walk_due(DOUBT, [], at(1), marks_absent=False)
    assert not is_walk_due(DOUBT, [walk(1)], at(100), marks_absent=False)
    assert not is_walk_due(replace(DOUBT, is_disputed=True), [walk(1)], at(100), marks_absent=True)


def test_page_sizes_take_turns():
    """Never the same size twice in a row."""
    assert next_page_size([]) == 100
    assert next_page_size([walk(1)]) == 73
    assert next_page_size([walk(1), walk(2, 73)]) == 100


# Whole searches.


LIST, FULL = "GET /tasks", "GET /tasks/:id"
LOST = [{"kind": "reset", "every": 4, "first": 20}]
BATCH = make_batch("b", models=(MODEL,))
MINUTE_S = 60.0


def look(work: Bench, **fields) -> ResolveResult:
    """One search, as a run or a tick of the sensor makes it."""

    async def once() -> ResolveResult:
        async with work.session() as session:
            return await resolve_unresolved(
                session, ImageWork(make_batch(models=(MODEL,), **fields)), BATCH.slices()
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
