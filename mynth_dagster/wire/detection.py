"""Which revision a server speaks, from one free, unauthenticated `GET /models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.errors import ConfigError

_OLD_SPELLING = frozenset({"displayName", "perImage", "perInput"})
_NEW_SPELLING = frozenset({"display_name", "per_image", "per_input", "per_second"})


def detect_revision(status: int, body: Any) -> str | None:
    """
    The revision, or None where the answer proves nothing and the last verdict must stand.

    A missing or guarded route means the oldest revision, which has no catalogue;
    else the spelling of the entries' keys tells, if they all agree.

    Raises:
        ConfigError: A revision that this release does not speak.
    """
    if status in (401, 404, 405):
        return "2026-04"
    entries = body.get("data") if isinstance(body, Mapping) else None
    if status != 200 or not isinstance(entries, list) or not entries:
        return None
    keys = {key for entry in entries for key in _keys(entry)}
    old, new = bool(keys & _OLD_SPELLING), bool(keys & _NEW_SPELLING)
    if old == new:
        return None
    if new:
        raise ConfigError(
            "api_revision",
            "the server speaks revision 2026-10, which this release does not; nothing was sent",
        )
    return "2026-08"


def _keys(entry: Any) -> set[str]:
    if not isinstance(entry, Mapping):
        return set()
    pricing = entry.get("pricing")
    return set(entry) | (set(pricing) if isinstance(pricing, Mapping) else set())
