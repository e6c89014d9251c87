"""What a receiver counts and says: refusals by reason, loudly but never in a flood."""

from __future__ import annotations

from collections import Counter

from mynth_dagster.clock import Clock
from mynth_dagster.models.receiver import ReceiverReport
from mynth_dagster.printable import printable_logger

TOLD_EVERY_S = 60.0
REPORTED_EVERY_S = 5.0

_log = printable_logger("mynth_dagster.webhook")


class Tally:
    """Counts of one receiver since its start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at_us = self._seen_at_us = clock.now_us()
        self._refused_at_us: int | None = None
        self._n_kept = self._n_repeated = 0
        self._refused: Counter[str] = Counter()
        self._told_at_s: dict[str, float] = {}
        self._reported_at_s: float | None = None

    def kept(self, *, is_new: bool) -> None:
        """An event was acknowledged."""
        self._seen_at_us = self._clock.now_us()
        self._n_kept += is_new
        self._n_repeated += not is_new

    def refused(self, reason: str) -> None:
        """A request was not let in; each reason is logged once a minute at most."""
        self._refused[reason] += 1
        self._refused_at_us = self._clock.now_us()
        self.warn(f"refused: {reason}", f"{self._refused[reason]} since the start")

    def warn(self, what: str, details: str) -> None:
        """Log a fixed text with details, if it was not logged within the minute."""
        now_s = self._clock.elapsed_s()
        if now_s - self._told_at_s.get(what, -TOLD_EVERY_S) >= TOLD_EVERY_S:
            self._told_at_s[what] = now_s
            _log.warning("%s (%s)", what, details)

    def take_report(self) -> ReceiverReport | None:
        """What is to be remembered now; None where that was done seconds ago."""
        now_s = self._clock.elapsed_s()
        if self._reported_at_s is not None and now_s - self._reported_at_s < REPORTED_EVERY_S:
            return None
        self._reported_at_s = now_s
        return self.report()

    def report(self) -> ReceiverReport:
        """The counts as they are."""
        return ReceiverReport(
            started_at_us=self._started_at_us,
            seen_at_us=self._seen_at_us,
            n_kept=self._n_kept,
            n_repeated=self._n_repeated,
            n_refused=dict(self._refused),
            refused_at_us=self._refused_at_us,
        )
