"""How webhooks are delivered: which endpoints are registered, and what goes wrong on the way."""

from __future__ import annotations

from dataclasses import dataclass

from mynth_dagster.simulator import invented
from mynth_dagster.simulator.distribution import Distribution

STANDARD_SECRET = invented.STANDARD_WEBHOOK_SECRET
"""What signs for an `Endpoint` without a secret of its own in 2026-10."""

_RETRY_WINDOWS_S = {"2026-04": 9000.0, "2026-08": 9000.0, "2026-10": 72 * 3600.0}
_FAILURES_UNTIL_DISABLED = {"2026-04": 30, "2026-08": 30, "2026-10": None}


@dataclass(frozen=True)
class Endpoint:
    """
    A registered webhook that is there from the start, as one made in the dashboard.

    Args:
        url: Where events are delivered.
        secret: Signs them: the whole text is the key, in 2026-10 the base64 after ``whsec_``.
            None: ``wbs_simulator``, in 2026-10 `STANDARD_SECRET`.
        events: Names or wildcards (``all``, ``task.completed``, ``task.failed``).
        enabled: Whether anything is delivered.
        user_id: The account that it belongs to.
        api_key_ids: Only tasks of these keys; None: of every key.
        include_session_tasks: Shown by the API alone: simulated tasks all have a key.
    """

    url: str
    secret: str | None = None
    events: tuple[str, ...] = ("all",)
    enabled: bool = True
    user_id: str = invented.USER_ID
    api_key_ids: tuple[str, ...] | None = None
    include_session_tasks: bool = False


@dataclass(frozen=True)
class DeliveryRules:
    """
    How events travel; times are in seconds of the simulator's clock.

    Args:
        delay: From the settlement of a task to the first attempt.
        duplicate_share: Share of events that are delivered twice although acknowledged, 0 to 1.
        lost_share: Share of events that are never delivered, 0 to 1.
        timeout_s: An answer later than this counts as a failure; real seconds.
        retry_first_s: From the first failure to the second attempt; doubled after each failure.
        retry_max_s: The longest pause between two attempts.
        retry_window_s: No attempt is made later than this after the settlement; None: 9000, in
            2026-10 259200 (72 hours).
        failures_until_disabled: So many failures in a row disable a registered webhook; None: 30,
            in 2026-10 none do.
    """

    delay: Distribution = invented.NO_DELAY
    duplicate_share: float = 0.0
    lost_share: float = 0.0
    timeout_s: float = 30.0
    retry_first_s: float = invented.RETRY_FIRST_S
    retry_max_s: float = invented.RETRY_MAX_S
    retry_window_s: float | None = None
    failures_until_disabled: int | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.duplicate_share <= 1 and 0 <= self.lost_share <= 1):
            raise ValueError("shares must be between 0 and 1")
        if self.failures_until_disabled is not None and self.failures_until_disabled < 1:
            raise ValueError("failures_until_disabled must be at least 1")

    def pause_s(self, n_failures: int) -> float:
        """How long to wait after so many failures of one delivery."""
        return min(self.retry_first_s * 2.0 ** (n_failures - 1), self.retry_max_s)

    def window_s(self, revision: str) -> float:
        """How long after the settlement attempts are made."""
        chosen = self.retry_window_s
        return _RETRY_WINDOWS_S[revision] if chosen is None else chosen

    def disables_after(self, revision: str) -> int | None:
        """How many failures in a row disable a registered webhook; None: any number is borne."""
        chosen = self.failures_until_disabled
        return _FAILURES_UNTIL_DISABLED[revision] if chosen is None else chosen
