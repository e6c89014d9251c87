"""The shared limit: slots, pauses, push-back and recovery, on a clock that moves by hand."""

from __future__ import annotations

import asyncio

import pytest

from mynth_dagster.client.limiter import Limiter
from mynth_dagster.clock import ManualClock


async def settle(turns: int = 20) -> None:
    """Let everything run that can run."""
    for _ in range(turns):
        await asyncio.sleep(0)


def test_no_more_slots_are_taken_than_the_limit():
    """The third waits until one of two is given back."""

    async def scenario() -> None:
        throttle = Limiter(2, ManualClock())
        await throttle.acquire()
        await throttle.acquire()
        third = asyncio.create_task(throttle.acquire())
        await settle()
        assert not third.done()
        await throttle.release()
        await third
        assert throttle.in_flight == 2

    asyncio.run(scenario())


def test_a_pause_holds_everybody_until_it_is_over():
    """Nobody gets a slot within the pause, and all get theirs after it."""

    async def scenario() -> None:
        clock = ManualClock()
        throttle = Limiter(8, clock)
        throttle.push_back(7.0)
        waiting = [asyncio.create_task(throttle.acquire()) for _ in range(3)]
        await settle()
        clock.advance(6.9)
        await settle()
        assert throttle.in_flight == 0
        clock.advance(0.2)
        await settle()
        assert all(task.done() for task in waiting)

    asyncio.run(scenario())


def test_a_longer_pause_that_comes_later_is_obeyed():
    """Who woke from the first pause looks again before it goes on."""

    async def scenario() -> None:
        clock = ManualClock()
        throttle = Limiter(8, clock)
        throttle.push_back(1.0)
        waiting = asyncio.create_task(throttle.acquire())
        await settle()
        throttle.push_back(5.0)
        clock.advance(1.0)
        await settle()
        assert not waiting.done()
        clock.advance(4.0)
        await settle()
        assert waiting.done()

    asyncio.run(scenario())


def test_a_pause_can_be_broken_off():
    """A run that is stopped does not wait five minutes for the end of a pause."""

    async def scenario() -> None:
        clock = ManualClock()
        throttle = Limiter(8, clock)
        throttle.push_back(300.0)
        stopped = False
        waiting = asyncio.create_task(throttle.acquire(give_up=lambda: stopped))
        await settle()
        assert not waiting.done()
        stopped = True
        clock.advance(1.0)
        await settle()
        assert waiting.done()

    asyncio.run(scenario())


def test_one_burst_halves_once():
    """A hundred answers of 429 to requests in flight together are one push."""
    throttle = Limiter(128, ManualClock())

    for _ in range(100):
        throttle.push_back(7.0)

    assert throttle.limit == 64


def test_each_new_round_halves_again_and_one_slot_stays():
    """Pushed back again and again, the limit sinks to one and no further."""
    clock = ManualClock()
    throttle = Limiter(8, clock)
    limits = []

    for _ in range(5):
        throttle.push_back(1.0)
        limits.append(throttle.limit)
        clock.advance(1.0)

    assert limits == [4, 2, 1, 1, 1]


def test_it_recovers_by_one_for_each_full_round_and_never_beyond_its_ceiling():
    """Four successes at a limit of four make five; the ceiling stays."""
    throttle = Limiter(8, ManualClock())
    throttle.push_back()
    limits = []

    for _ in range(60):
        throttle.note_success()
        limits.append(throttle.limit)

    assert limits[3:5] == [5, 5]
    assert limits[8] == 6
    assert max(limits) == limits[-1] == 8


def test_a_recovered_limit_is_used_by_those_who_wait():
    """Waiters are woken when there is more room, without anybody giving a slot back twice."""

    async def scenario() -> int:
        clock = ManualClock()
        throttle = Limiter(4, clock)
        throttle.push_back()
        done = 0

        async def work() -> None:
            nonlocal done
            for _ in range(20):
                await throttle.acquire()
                await asyncio.sleep(0)
                throttle.note_success()
                await throttle.release()
                done += 1

        await asyncio.gather(*(work() for _ in range(10)))
        assert throttle.limit == 4
        assert throttle.in_flight == 0
        return done

    assert asyncio.run(scenario()) == 200


@pytest.mark.parametrize("limit", [1, 3])
def test_a_cancelled_waiter_takes_no_slot_with_it(limit):
    """Cancelling those who wait leaves the slots for others."""

    async def scenario() -> None:
        clock = ManualClock()
        throttle = Limiter(limit, clock)
        throttle.push_back(5.0)
        waiting = [asyncio.create_task(throttle.acquire()) for _ in range(limit + 2)]
        await settle()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        clock.advance(5.0)
        assert throttle.in_flight == 0
        await throttle.acquire()
        assert throttle.in_flight == 1

    asyncio.run(scenario())
