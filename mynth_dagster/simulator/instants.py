"""Spelling of times: ISO-8601 in UTC with milliseconds and ``Z``, as the API writes them."""

from __future__ import annotations

from functools import lru_cache

from mynth_dagster.clock import US_PER_S, utc_from_us

US_PER_MS = 1_000


def spell_instant(at_us: int) -> str:
    """A microsecond timestamp as ``2026-11-22T06:42:00.123Z``."""
    seconds, rest_us = divmod(at_us, US_PER_S)
    return f"{_spell_second(seconds)}.{rest_us // US_PER_MS:03d}Z"


@lru_cache(maxsize=1024)
def _spell_second(seconds: int) -> str:
    return utc_from_us(seconds * US_PER_S).strftime("%Y-%m-%dT%H:%M:%S")
