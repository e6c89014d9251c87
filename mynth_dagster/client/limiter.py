"""
The limiter: how many requests may be in flight, and pauses in which none may be sent.

All workers of a process share one limit: it halves when Mynth or the network pushes back and grows
by one for each full round of successes. They share one pause, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mynth_dagster.clock import Clock
from mynth_dagster.errors import (
    ApiError,
    NoAnswerError,
    NotSentError,
    RateLimitedError,
    ServerFaultError,
    UnexpectedPayloadError,
)
from mynth_dagster.limits import RETRY_AFTER_MAX_S, RETRY_DELAY_MAX_S, RETRY_DELAY_MIN_S

LOOK_UP_S = 1.0
"""How often a wait for the end of a pause checks whether to give up."""


class Limiter:
    """
    Slots for requests on one event loop.

    Args:
        limit: Requests in flight at most; the adaptive limit never exceeds it.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        self._ceiling = limit
        self._limit = limit
        self._clock = clock
        self._in_flight = 0
        self._successes = 0
        self._resume_at_s = 0.0
        self._free = asyncio.Condition()
        self._n_waiting = 0

    @property
    def limit(self) -> int:
        """The limit now in force."""
        return self._limit

    @property
    def is_pushed_back(self) -> bool:
        """Whether a slot that is taken should be given back before it is used again."""
        return self._in_flight > self._limit or self._left_s() > 0

    @property
    def in_flight(self) -> int:
        """Slots taken."""
        return self._in_flight

    async def acquire(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """
        Wait until no pause is on and a slot is free, and take it.

        Args:
            give_up: Called once a second: whether to stop waiting for the pause to end. The slot
                is then taken within it, to be given back unused.
        """
        if self._n_waiting == 0 and self._in_flight < self._limit and self._left_s() <= 0:
            self._in_flight += 1
            return
        self._n_waiting += 1
        try:
            await self._wait_for_slot(give_up)
        finally:
            self._n_waiting -= 1

    def _left_s(self) -> float:
        """Return how long the pause still lasts."""
        return self._resume_at_s - self._clock.elapsed_s() if self._resume_at_s else 0.0

    async def _wait_for_slot(self, give_up: Callable[[], bool]) -> None:
        async with self._free:
            while True:
                await self._free.wait_for(lambda: self._in_flight < self._limit)
                left_s = self._left_s()
                if left_s <= 0 or give_up():
                    break
                self._free.release()
                try:
                    await self._clock.sleep(min(left_s, LOOK_UP_S))
                finally:
                    await self._free.acquire()
            self._in_flight += 1

    async def release(self) -> None:
        """Give a slot back."""
        self._in_flight -= 1
        if self._n_waiting:
            async with self._free:
                self._free.notify()

    def note_success(self) -> None:
        """Note a response in time: recover slowly."""
        self._successes += 1
        if self._limit < self._ceiling and self._successes >= self._limit:
            self._limit += 1
            self._successes = 0

    def push_back(self, pause_s: float = 0.0) -> None:
        """
        Allow fewer requests from now on, and none at all for ``pause_s`` seconds.

        All that were in flight together push back together: within a pause the limit halves once.
        """
        now_s = self._clock.elapsed_s()
        if now_s >= self._resume_at_s:
            self._limit = max(1, self._limit // 2)
        self._successes = 0
        self._resume_at_s = max(self._resume_at_s, now_s + pause_s)


# When to repeat a free read; pure. The paid call is never repeated here.


_PASSING = (NoAnswerError, NotSentError, RateLimitedError, ServerFaultError, UnexpectedPayloadError)


def may_pass_by_itself(error: ApiError) -> bool:
    """Whether the same read may succeed later."""
    return isinstance(error, _PASSING)


def decide_retry_s(error: ApiError, *, attempt: int, attempts_max: int) -> float | None:
    """
    Return the seconds to wait before the next attempt of a free read, or None to give up.

    A `Retry-After` is obeyed up to `RETRY_AFTER_MAX_S`; a longer one means "not now".

    Args:
        attempt: The attempt that failed, 1-based.
    """
    if attempt >= attempts_max or not may_pass_by_itself(error):
        return None
    retry_after_s = getattr(error, "retry_after_s", None) or 0.0
    return None if retry_after_s > RETRY_AFTER_MAX_S else max(retry_after_s, backoff_s(attempt))


def backoff_s(attempt: int) -> float:
    """Return a pause that doubles from `RETRY_DELAY_MIN_S` to `RETRY_DELAY_MAX_S`, 1-based."""
    return float(min(RETRY_DELAY_MIN_S * 2 ** min(attempt - 1, 16), RETRY_DELAY_MAX_S))
