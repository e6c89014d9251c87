"""
Dicts and bytes to values and back; no I/O.

One module per API revision, all with the functions of `profile.RevisionProfile`.
Readers are tolerant of every spelling any revision ever used, since a paid answer must be
understood; writers are exact, since a wrong field is refused, or ignored in silence.
"""

from __future__ import annotations

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import REVISIONS
from mynth_dagster.wire import v2026_04, v2026_08, v2026_10
from mynth_dagster.wire.revision import RevisionProfile

PROFILES: dict[str, RevisionProfile] = {
    v2026_04.REVISION: v2026_04,
    v2026_08.REVISION: v2026_08,
    v2026_10.REVISION: v2026_10,
}

AUTO_REVISION = "auto"


def profile_of(revision: str) -> RevisionProfile:
    """
    The module that speaks a revision.

    Raises:
        ConfigError: No such revision.
    """
    if revision not in PROFILES:
        raise ConfigError("api_revision", f"{revision!r} is not one of {', '.join(REVISIONS)}")
    return PROFILES[revision]
