"""When absence is proof: pure decisions about walks and doubts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.engine.absence import (
    is_not_accepted,
    is_walk_due,
    next_page_size,
    why_not_absent,
)
from mynth_dagster.models.intent import KnownTask, StrangeTask, Trail, UnresolvedIntent, Walk
from tests.factories import make_intent

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
UNTAGGED = StrangeTask("tsk_y", "image.generate", "has no tag", asked="a red kite")
AFTER, DURING, BEFORE = ours(21), ours(9, 15), ours(5)


def why_not(
    seen: Trail, *, minutes: float = 15, doubt: UnresolvedIntent = DOUBT, account: int = 1
) -> str:
    began = at(minutes)
    return why_not_absent(doubt, seen, began=began, account=account, asked="a red kite")


@pytest.mark.parametrize(
    "seen",
    [
        trail(AFTER, BEFORE),
        trail(None, AFTER, None, DURING, None, BEFORE),
        trail(AFTER, is_at_end=True),
        trail(AFTER, BEFORE, UNREAD),
        trail(UNREAD, ours(30, minutes=16), AFTER, BEFORE),
        trail(AFTER, replace(UNREAD, type="image.upscale"), BEFORE),
        trail(AFTER, replace(UNTAGGED, asked="a boat"), BEFORE),
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
def test_what_is_not_bracketed_is_held_and_why_is_said(seen, because):
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
    """What cannot lead to anything is not asked for."""
    assert is_walk_due(DOUBT, [], at(1), marks_absent=False)
    assert not is_walk_due(DOUBT, [walk(1)], at(100), marks_absent=False)
    assert not is_walk_due(replace(DOUBT, is_disputed=True), [walk(1)], at(100), marks_absent=True)


def test_page_sizes_take_turns():
    """Never the same size twice in a row."""
    assert next_page_size([]) == 100
    assert next_page_size([walk(1)]) == 73
    assert next_page_size([walk(1), walk(2, 73)]) == 100
