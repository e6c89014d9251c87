"""What the launchpad asks of a submission, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from mynth_dagster.engine.asking import Asking, Retry

ASKING_CONFIG = {
    "retry": dg.Field(
        dg.Enum("MynthRetry", [dg.EnumValue(choice.value) for choice in Retry]),
        default_value=Retry.NONE.value,
        description="Finished rows to ask for again, each paid for anew: retryable (failed, and "
        "may end otherwise), failed (all failed or refused), partial (also those of which some "
        "images failed).",
    ),
    "force": dg.Field(
        bool, default_value=False, description="Ask for every finished row again, delivered or not."
    ),
    "prompt_ids": dg.Field(
        [str], default_value=[], description="Send only these rows; empty: all that are missing."
    ),
    "confirm": dg.Field(
        bool, default_value=False, description="Yes, pay again for a large part of a partition."
    ),
}
"""The launchpad's fields of `<batch>__submit` and `<batch>__quote`."""


def asking_from(config: Mapping[str, Any]) -> Asking:
    """The wishes of one run."""
    return Asking(
        retry=Retry(config["retry"]),
        force=config["force"],
        prompt_ids=frozenset(config["prompt_ids"]),
        confirm=config["confirm"],
    )
