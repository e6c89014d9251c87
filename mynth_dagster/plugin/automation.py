"""Automation of what stands downstream of a batch."""

from __future__ import annotations

import dagster as dg


def eager_any_date() -> dg.AutomationCondition:  # type: ignore[type-arg]
    """
    Dagster's `eager()`, for windows of any date.

    `eager()` looks at the latest window only. With this, an asset by day over all shards of a
    batch is requested once the last shard of its day has landed, also when an old day is
    backfilled. Every shard lands, with or without failures, so no day waits for ever.

    Dagster's sensor `default_automation_condition_sensor` does this; it is off until you switch it
    on.
    """
    latest_only = dg.AutomationCondition.in_latest_time_window()
    return dg.AutomationCondition.eager().without(latest_only).with_label("eager_any_date")
