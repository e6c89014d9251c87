"""Which failures of a database pass by themselves, and how long they are waited for."""

from __future__ import annotations

import sqlalchemy as sa

from mynth_dagster.errors import LedgerUnavailableError
from mynth_dagster.limits import LEDGER_OUTAGE_MAX_S

_PASSING = ("locked", "busy", "full", "disk i/o", "unable to open", "readonly")
"""Words of SQLite for what another writer, or somebody who frees space, may end."""

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0


def is_outage(error: BaseException) -> bool:
    """Whether the same statement may succeed a little later."""
    if isinstance(error, sa.exc.TimeoutError):
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return False
    is_sqlite = type(error.orig).__module__.partition(".")[0] == "sqlite3"
    return not is_sqlite or any(word in str(error.orig).lower() for word in _PASSING)


class Patience:
    """How often and how long to wait for a database that is away; pure bookkeeping."""

    def __init__(self, max_s: float = LEDGER_OUTAGE_MAX_S) -> None:
        self._left_s = max_s
        self._pause_s = PAUSE_MIN_S

    def next_pause_s(self) -> float | None:
        """Seconds to wait before the next try, or None when patience is at its end."""
        if self._left_s <= 0:
            return None
        pause_s = min(self._pause_s, self._left_s)
        self._left_s -= pause_s
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)
        return pause_s


def in_our_words(error: Exception, said: str) -> Exception:
    """A database's failure as an error of ours, with the driver's own message."""
    if not isinstance(error, sa.exc.SQLAlchemyError):
        return error
    cause = getattr(error, "orig", None) or error
    unavailable = LedgerUnavailableError(f"{said}: {cause}")
    unavailable.__cause__ = error
    return unavailable
