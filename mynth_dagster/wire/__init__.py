"""
The wire: JSON to values and back, by revision; no I/O.

One module for each API revision, all with the functions of `revision.RevisionProfile`. Readers are
tolerant of every spelling that any revision ever used, since a paid response must be understood;
writers are exact, since a wrong field is refused, or ignored without an error.
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
    Return the module of a revision.

    Raises:
        ConfigError: No such revision.
    """
    if revision not in PROFILES:
        raise ConfigError("api_revision", f"{revision!r} is not one of {', '.join(REVISIONS)}")
    return PROFILES[revision]
