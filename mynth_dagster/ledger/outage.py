"""Which failures of a database pass by themselves, and how long they are waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from mynth_dagster.clock import SystemClock
from mynth_dagster.errors import LedgerUnavailableError
from mynth_dagster.limits import LEDGER_OUTAGE_MAX_S

_PASSING = ("locked", "busy", "full", "disk i/o", "unable to open", "readonly")
"""Words of SQLite for what another writer, or somebody who frees space, may end."""

T = TypeVar("T")
_LOCKED = ("55P03", "57014", "40P01")
"""Postgres: a lock or a statement took too long, or two waited for each other."""

OPENING_MAX_S = 45.0
"""Nothing is at stake yet, and a frozen client is rolled back after 30 seconds."""

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0
_elapsed_s = SystemClock().elapsed_s


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
    """
    How often and how long to wait for a database that is away; begins when it is made.

    A try may take long by itself, where the database hangs and does not refuse: it counts.
    """

    def __init__(
        self,
        max_s: float = LEDGER_OUTAGE_MAX_S,
        elapsed_s: Callable[[], float] = _elapsed_s,
    ) -> None:
        self._max_s = max_s
        self._elapsed_s = elapsed_s
        self._began_s = elapsed_s()
        self._paused_s = 0.0
        self._pause_s = PAUSE_MIN_S

    def next_pause_s(self) -> float | None:
        """Seconds to wait before the next try, or None when patience is at its end."""
        left_s = self._max_s - max(self._paused_s, self._elapsed_s() - self._began_s)
        if left_s <= 0:
            return None
        pause_s = min(self._pause_s, left_s)
        self._paused_s += pause_s
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)
        return pause_s


def until_unlocked(call: Callable[[], T], pause: Callable[[float], None]) -> T:
    """What a call comes to, tried again for a while where another transaction is in its way."""
    patience = Patience(OPENING_MAX_S)
    while True:
        try:
            return call()
        except sa.exc.SQLAlchemyError as error:
            pause_s = patience.next_pause_s() if _is_locked(error) else None
            if pause_s is None:
                raise
        pause(pause_s)


def _is_locked(error: sa.exc.SQLAlchemyError) -> bool:
    orig = getattr(error, "orig", None)
    said = str(orig).lower()
    return getattr(orig, "sqlstate", None) in _LOCKED or "locked" in said or "busy" in said


def in_our_words(error: Exception, said: str) -> Exception:
    """A database's failure as an error of ours, with the driver's own message."""
    if not isinstance(error, sa.exc.SQLAlchemyError):
        return error
    cause = getattr(error, "orig", None) or error
    unavailable = LedgerUnavailableError(f"{said}: {cause}")
    unavailable.__cause__ = error
    return unavailable
