"""The clocks: one moved by hand, and exact ways between times and microseconds."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.clock import Instant, ManualClock, SystemClock, us_from_utc, utc_from_us


def test_sleepers_wake_in_the_order_of_their_time():
    """Nobody early, nobody late."""
    clock, woken = ManualClock(), []

    async def sleep(delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append(delay_s)

    async def scenario() -> None:
        tasks = [asyncio.create_task(sleep(delay_s)) for delay_s in (3.0, 1.0, 2.0)]
        await asyncio.sleep(0)
        assert clock.n_sleepers == 3
        clock.advance(2.0)
        await asyncio.gather(*tasks[1:])
        assert woken == [1.0, 2.0]
        clock.advance(1.0)
        await tasks[0]

    asyncio.run(scenario())


def test_setting_the_wall_clock_is_no_time_passing():
    """An administrator moves one reading, sleeping machines move both."""
    clock = ManualClock()
    before_us = clock.now_us()

    clock.jump_wall(-3600)

    assert clock.now_us() == before_us - 3_600_000_000
    assert clock.elapsed_s() == 0


def test_elapsed_time_never_goes_back():
    """As far as one can look."""
    clock = SystemClock()
    readings = [clock.elapsed_s() for _ in range(100)]

    assert readings == sorted(readings)


@given(st.integers(0, 4_102_444_800_000_000))
def test_times_are_exact_to_the_microsecond(at_us):
    """No float in between."""
    assert us_from_utc(utc_from_us(at_us)) == at_us


def test_a_time_without_a_zone_is_refused():
    """It is no moment."""
    with pytest.raises(ValueError, match="zone"):
        us_from_utc(datetime(2026, 1, 1))  # noqa: DTZ001
    assert us_from_utc(datetime(1970, 1, 1, tzinfo=timezone.utc)) == 0


BOOT = Instant(wall_us=1_000, boot_us=500, boot_id="a")


@pytest.mark.parametrize(
    ("until", "elapsed_us"),
    [
        (Instant(1_300, 800, "a"), 300),
        (Instant(9_999, 800, "a"), 300),
        (Instant(10, 800, "a"), 300),
        (Instant(1_300, 40, "b"), 40),
        (Instant(1_030, 900, "b"), 30),
        (Instant(10, 900, "b"), 0),
        (Instant(1_300), 300),
        (Instant(10), 0),
    ],
    ids=[
        *("both clocks", "set forward", "set back", "since a restart", "long after a restart"),
        *("set back over a restart", "a database's time", "a database's time, set back"),
    ],
)
def test_what_surely_passed_is_never_more_than_it_was(until, elapsed_us):
    """The boot clock where it is the same, else the least that wall clock and restart allow."""
    assert BOOT.surely_elapsed_us(until) == elapsed_us


NAMELESS = Instant(wall_us=1_000, boot_us=500)


@pytest.mark.parametrize(
    ("since", "until", "elapsed_us"),
    [
        (NAMELESS, Instant(1_300, 800), 300),
        (NAMELESS, Instant(9_999, 800), 300),
        (NAMELESS, Instant(1_100, 800), 100),
        (NAMELESS, Instant(9_999, 40), 40),
        (NAMELESS, Instant(10, 800), 0),
        (Instant(1_000), Instant(9_999, 800), 800),
        (BOOT, Instant(9_999, 800), 300),
    ],
    ids=[
        *("both clocks", "set forward", "set back a little", "since a restart", "set back"),
        *("since a database's time", "a name that was lost"),
    ],
)
def test_a_clock_that_was_set_is_no_time_where_starts_have_no_name(since, until, elapsed_us):
    """The least that wall clock and boot clock allow; one that went back means a restart."""
    assert since.surely_elapsed_us(until) == elapsed_us


@pytest.mark.parametrize("instant", [BOOT, Instant(7), Instant(7, 0, "x/y")])
def test_an_instant_survives_as_text(instant):
    """As it is kept in the ledger."""
    assert Instant.parse(str(instant)) == instant


def test_the_machine_tells_which_start_it_is():
    """Two looks of one process are of the same start, the later one not before the earlier."""
    first, second = SystemClock().instant(), SystemClock().instant()

    assert first.boot_id == second.boot_id
    assert 0 <= first.surely_elapsed_us(second) < 60_000_000
