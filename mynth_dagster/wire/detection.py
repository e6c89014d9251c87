"""
Which revision a server speaks, told by the spelling of answers that cost nothing.

The revisions carry no version anywhere, and each spells its answers in its own way. The public
catalogue (`GET /models`) tells two of them apart; where it is missing or unreadable, an estimate
(`POST /image/generate/estimate`) does, with the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.limits import AUTO_MODEL

_OLD_SPELLING = frozenset({"displayName", "perImage", "perInput"})
_NEW_SPELLING = frozenset({"display_name", "per_image", "per_input", "per_second"})
_ABSENT = frozenset({401, 404, 405})

ESTIMATE_BODY = {"prompt": "a", "model": AUTO_MODEL}
"""A request for an estimate that every revision that has estimates takes."""


def revision_by_catalog(status: int, body: Any) -> str | None:
    """
    The revision by the answer to an unauthenticated `GET /models`; None where it proves nothing.

    The keys of all entries have to agree in their spelling.
    """
    entries = body.get("data") if isinstance(body, Mapping) else None
    if status != 200 or not isinstance(entries, list) or not entries:
        return None
    keys = {key for entry in entries for key in _keys(entry)}
    old, new = bool(keys & _OLD_SPELLING), bool(keys & _NEW_SPELLING)
    if old == new:
        return None
    return "2026-10" if new else "2026-08"


def may_be_without_catalog(status: int) -> bool:
    """Whether the answer to `GET /models` is what a server of the oldest revision gives."""
    return status in _ABSENT


def revision_by_estimate(status: int, body: Any) -> str | None:
    """The revision by the answer to a request for an estimate; None where it proves nothing."""
    payload = body.get("data") if isinstance(body, Mapping) else None
    if status != 200 or not isinstance(payload, Mapping):
        return None
    if "estimated_cost" in payload:
        return "2026-10"
    return "2026-08" if "estimatedCost" in payload else None


def _keys(entry: Any) -> set[str]:
    if not isinstance(entry, Mapping):
        return set()
    pricing = entry.get("pricing")
    return set(entry) | (set(pricing) if isinstance(pricing, Mapping) else set())
