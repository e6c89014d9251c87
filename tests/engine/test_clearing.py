"""When absence is proof: pure decisions about walks and doubts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.engine.clearing import (
    is_cleared,
    is_conclusive,
    is_walk_due,
    next_page_size,
    oldest_wanted_us,
)
from mynth_dagster.models.doubt import Doubt, Walk
from tests.factories import make_intent

MINUTE_US = 60 * US_PER_S
SERVER_US = 5_000 * MINUTE_US
SINCE = Instant(1_000 * MINUTE_US, 100 * MINUTE_US, "boot")
DOUBT = Doubt(make_intent(), 1, SERVER_US, SINCE, 10)


def at(minutes: float, *, wall: float | None = None) -> Instant:
    """So long after the doubt began, by the boot clock; the wall clock may say otherwise."""
    passed_us = round(minutes * MINUTE_US)
    wall_us = passed_us if wall is None else round(wall * MINUTE_US)
    return Instant(SINCE.wall_us + wall_us, (SINCE.boot_us or 0) + passed_us, "boot")


def walk(minutes: float, size: int = 100, **fields: object) -> Walk:
    made = Walk(1, size, at(minutes), at(minutes + 0.1), SERVER_US - 10 * MINUTE_US, 11)
    return replace(made, **fields)


FIRST, SECOND = walk(15), walk(18, 73)


def test_two_late_thorough_walks_with_a_witness_prove_absence():
    """Fifteen minutes, then two more, pages of two sizes, a later task of ours in sight."""
    assert is_cleared(DOUBT, [FIRST, SECOND])


@pytest.mark.parametrize(
    ("walks", "because"),
    [
        ([FIRST], "one walk alone"),
        ([walk(15), walk(18)], "the same page size twice"),
        ([walk(14.9), walk(18, 73)], "the first too soon"),
        ([walk(15), walk(16.9, 73)], "too close together"),
        ([walk(15), walk(18, 73, account=2)], "another key's list"),
        ([walk(15), walk(18, 73, witness_no=10)], "no witness after the doubt"),
        ([walk(15), walk(18, 73, reached_us=SERVER_US - 9 * MINUTE_US)], "not far enough"),
        ([walk(15, began=at(1, wall=15)), SECOND], "a wall clock set forward"),
        ([FIRST, walk(18, 73, began=at(15.2, wall=90))], "set forward between the two"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_less_proves_nothing(walks, because):
    """Each condition alone keeps the row in doubt."""
    assert not is_cleared(DOUBT, walks)


def test_without_a_witness_an_hour_is_enough():
    """A list that shows no later task of ours may be stale, but not for ever."""
    late = [walk(60, witness_no=0), walk(63, 73, witness_no=0)]
    early = [walk(59, witness_no=0), walk(63, 73, witness_no=0)]

    assert is_cleared(DOUBT, late)
    assert not is_cleared(DOUBT, early)


def test_the_end_of_the_list_is_far_enough():
    """Where the server's time of the request is not known, only the end is."""
    no_time = replace(DOUBT, claimed_server_us=None)

    assert not is_conclusive(FIRST, no_time)
    assert is_conclusive(replace(FIRST, reached_us=None), no_time)
    assert oldest_wanted_us([DOUBT, no_time]) == 0
    assert oldest_wanted_us([DOUBT]) == SERVER_US - 10 * MINUTE_US


def test_a_disputed_row_is_never_cleared():
    """A task that names it with another hash is a riddle for a person."""
    assert not is_cleared(replace(DOUBT, is_disputed=True), [FIRST, SECOND])


def test_a_request_that_may_still_leave_is_never_cleared():
    """Its process may be alive: there is nothing to measure from."""
    sending = replace(DOUBT, since=None)

    assert not is_cleared(sending, [FIRST, SECOND])
    assert is_walk_due(sending, [FIRST], at(1), may_clear=True)


@pytest.mark.parametrize(
    ("walks", "minutes", "is_due"),
    [
        ([], 0, True),
        ([walk(1)], 2, False),
        ([walk(1)], 15, True),
        ([walk(15)], 16, False),
        ([walk(15)], 17.2, True),
        ([walk(15, witness_no=0)], 17.2, False),
        ([walk(15, witness_no=0)], 21, True),
    ],
)
def test_walks_are_made_when_they_can_prove_something(walks, minutes, is_due):
    """At once for evidence, later for proof, and seldom where they proved nothing."""
    assert is_walk_due(DOUBT, walks, at(minutes), may_clear=True) is is_due


def test_where_rows_are_held_one_search_is_enough():
    """What cannot lead to anything is not asked for."""
    assert is_walk_due(DOUBT, [], at(1), may_clear=False)
    assert not is_walk_due(DOUBT, [walk(1)], at(100), may_clear=False)
    assert not is_walk_due(replace(DOUBT, is_disputed=True), [walk(1)], at(100), may_clear=True)


def test_page_sizes_take_turns():
    """Never the same size twice in a row."""
    assert next_page_size([]) == 100
    assert next_page_size([walk(1)]) == 73
    assert next_page_size([walk(1), walk(2, 73)]) == 100
