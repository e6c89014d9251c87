"""What the checks of a batch allow before they warn or fail."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from mynth_dagster.errors import ConfigError


@dataclass(frozen=True)
class CheckLimits:
    """
    What the checks allow. Rates are shares, 0 to 1, each of one partition.

    Args:
        rejected_rate_warn: More rejected prompt rows than this share is a warning …
        rejected_rate_error: … and more than this an error.
        failure_rate_warn: More of the images asked for missing than this share is a warning …
        failure_rate_error: … and more than this an error.
        missing_file_rate_warn: More images without a file is a warning …
        missing_file_rate_error: … and more than this an error; judged where files are kept.
        budget_usd_per_window: USD that all partitions of one window together may be charged;
            None: the batch's own cap on a window, else there is no such check. It judges
            afterwards and stops nothing.
        forbidden_levels: Levels of the content rating that no image may have.
        unrated_share_warn: More images whose rating failed than this share is a warning.
    """

    rejected_rate_warn: float = 0.0
    rejected_rate_error: float = 1.0
    failure_rate_warn: float = 0.05
    failure_rate_error: float = 0.5
    missing_file_rate_warn: float = 0.0
    missing_file_rate_error: float = 1.0
    budget_usd_per_window: Decimal | None = None
    forbidden_levels: tuple[str, ...] = ()
    unrated_share_warn: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rejected_rate", "failure_rate", "missing_file_rate"):
            warn, error = getattr(self, f"{name}_warn"), getattr(self, f"{name}_error")
            if not 0 <= warn <= error <= 1:
                reason = f"{warn} and {error}: 0 ≤ {name}_warn ≤ {name}_error ≤ 1 is needed"
                raise ConfigError(f"checks.{name}_warn", reason)
        if not 0 <= self.unrated_share_warn <= 1:
            raise ConfigError("checks.unrated_share_warn", "a share from 0 to 1 is needed")
        budget = self.budget_usd_per_window
        if budget is not None and not (budget.is_finite() and budget > 0):
            raise ConfigError("checks.budget_usd_per_window", f"{budget} is not above 0")


DEFAULT_LIMITS = CheckLimits()


def percent(share: float) -> str:
    """A share for people, as exact as it was given."""
    return f"{share * 100:g}%"


def thresholds(what: str, warn: float, error: float) -> str:
    """When a check warns and fails; ``what`` is whose share it judges, with its verb."""
    fails = f", fails if {_more_than(error)}" if error < 1 else ""
    return f"Warns if {_more_than(warn)} of a partition's {what}{fails}."


def _more_than(share: float) -> str:
    return f"more than {percent(share)}" if share else "any"
