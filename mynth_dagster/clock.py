"""
The clock: the only place that reads time.

It has two readings, for two purposes: `Clock.now_us` is *when* something happened (UTC, compared
across processes), `Clock.elapsed_s` measures *how long* something takes (a clock that no
administrator sets and that goes on while the machine sleeps). `Clock.instant` holds both, for
durations that another process will measure.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Protocol

US_PER_S = 1_000_000


@dataclass(frozen=True)
class Instant:
    """
    A point in time from which another process can measure a duration.

    Args:
        wall_us: Microseconds since 1970-01-01 UTC, as the clock was set then.
        boot_us: Microseconds since the machine started; None for a database's time.
        boot_id: Which start of which machine; empty where the system does not tell.
    """

    wall_us: int
    boot_us: int | None = None
    boot_id: str = ""

    def __str__(self) -> str:
        boot = "" if self.boot_us is None else str(self.boot_us)
        return f"{self.wall_us}/{boot}/{self.boot_id}"

    @classmethod
    def parse(cls, text: str) -> Instant:
        """The inverse of `str`."""
        wall, boot, boot_id = text.split("/", 2)
        return cls(int(wall), int(boot) if boot else None, boot_id)

    def surely_elapsed_us(self, until: Instant) -> int:
        """
        Return the time that has passed at least, 0 or more: setting a clock cannot make it longer.

        Within one start of a machine, its boot clock alone decides. After a restart, only the time
        since then is certain; what the wall clock shows beyond it is not. If starts have no id, the
        shorter of both counts, and a boot clock that went back means a restart.
        """
        by_wall = max(until.wall_us - self.wall_us, 0)
        if until.boot_us is None:
            return by_wall
        since_boot_us = until.boot_us - (self.boot_us or 0)
        if self.boot_us is None or not (self.boot_id and until.boot_id):
            return min(by_wall, until.boot_us if since_boot_us < 0 else since_boot_us)
        if until.boot_id == self.boot_id:
            return max(since_boot_us, 0)
        return min(by_wall, until.boot_us)


class Clock(Protocol):
    """Time as the package sees it; `SystemClock` in production, `ManualClock` in tests."""

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        ...

    def elapsed_s(self) -> float:
        """Return seconds since an arbitrary start; never goes back, counts time asleep."""
        ...

    def instant(self) -> Instant:
        """Return the present, as another process can measure from it."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait for ``delay_s`` seconds of this clock."""
        ...


class SystemClock:
    """The machine's clocks: wall time, and boot time where the system has it."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def elapsed_s(self) -> float:
        return _boot_time_s()

    def instant(self) -> Instant:
        return Instant(self.now_us(), round(_boot_time_s() * US_PER_S), _boot_id())

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class ManualClock:
    """
    A clock that moves only by its methods.

    `advance` moves both readings and wakes the sleepers whose time has come;
    `jump_wall` moves the wall clock alone, as an administrator would.
    """

    def __init__(self, start_us: int = 1_795_000_000 * US_PER_S) -> None:
        self._now_us = start_us
        self._elapsed_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_us(self) -> int:
        return self._now_us

    def elapsed_s(self) -> float:
        return self._elapsed_s

    def instant(self) -> Instant:
        return Instant(self.now_us(), round(self._elapsed_s * US_PER_S), "manual")

    async def sleep(self, delay_s: float) -> None:
        wake_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self._elapsed_s + max(delay_s, 0.0), next(self._order), wake_up)
        heapq.heappush(self._sleepers, entry)
        self._wake_due()
        await wake_up

    def advance(self, seconds: float) -> None:
        """Move time forward by ``seconds`` and wake the sleepers that are due."""
        self._elapsed_s += seconds
        self._now_us += round(seconds * US_PER_S)
        self._wake_due()

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward (or back, negative) without time having passed."""
        self._now_us += round(seconds * US_PER_S)

    @property
    def n_sleepers(self) -> int:
        """The number of coroutines that wait on this clock."""
        return sum(not wake_up.done() for _, _, wake_up in self._sleepers)

    def _wake_due(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_s:
            _, _, wake_up = heapq.heappop(self._sleepers)
            if not wake_up.done():
                wake_up.get_loop().call_soon_threadsafe(_finish, wake_up)


def block_s(delay_s: float) -> None:
    """Block the calling thread; never one that runs an event loop."""
    time.sleep(delay_s)


def utc_from_us(at_us: int) -> datetime:
    """Return the aware UTC datetime of a microsecond timestamp."""
    seconds, micros = divmod(at_us, US_PER_S)
    return datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=micros)


def us_from_utc(moment: datetime) -> int:
    """
    Return the microsecond timestamp of an aware datetime.

    Raises:
        ValueError: The datetime carries no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be placed on the UTC line")
    delta = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (delta.days * 86_400 + delta.seconds) * US_PER_S + delta.microseconds


def _finish(wake_up: asyncio.Future[None]) -> None:
    if not wake_up.done():
        wake_up.set_result(None)


def _boot_time_s() -> float:
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


@lru_cache(maxsize=1)
def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
