"""The jobs of a batch and its nightly schedule."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dagster as dg

from mynth_dagster.errors import ConfigError
from mynth_dagster.plugin.bodies import BatchAssets

PHASES = {
    "submit": ("prompts", "tasks"),
    "collect": ("images", "failures"),
    "all": ("prompts", "tasks", "images", "failures"),
}


def job_name(batch: str, phase: str) -> str:
    """`<batch>_submit`, `<batch>_collect`, `<batch>_all`."""
    return f"{batch}_{phase}"


def build_jobs(assets: BatchAssets) -> list[Any]:
    """
    One job per phase, over explicit keys and in one process.

    A step of its own process costs seconds; what is parallel here is inside the step.
    """
    return [
        dg.define_asset_job(
            job_name(assets.batch.name, phase),
            selection=dg.AssetSelection.assets(*(assets.key(table) for table in tables)),
            executor_def=dg.in_process_executor,
            description=f"{', '.join(tables)} of {assets.batch.name}",
        )
        for phase, tables in PHASES.items()
    ]


def build_schedule(
    assets: BatchAssets, *, cron: str, phase: str, per_partition: bool
) -> dg.ScheduleDefinition:
    """
    The last closed window at the time of `cron`: one run over its whole fan-out, or one each.

    Raises:
        ConfigError: The batch has no time windows.
    """
    windows = assets.partitions.windows
    if not isinstance(windows, dg.TimeWindowPartitionsDefinition):
        raise ConfigError("schedule", "only a batch with time windows can be scheduled")
    name = job_name(assets.batch.name, phase)

    @dg.schedule(
        name=f"{assets.batch.name}_nightly",
        job_name=name,
        cron_schedule=cron,
        execution_timezone=windows.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Runs {name} for the last closed window.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> Any:
        return _requests(assets, windows, context.scheduled_execution_time, per_partition)

    return nightly


def _requests(
    assets: BatchAssets,
    windows: dg.TimeWindowPartitionsDefinition,
    now: datetime,
    per_partition: bool,  # noqa: FBT001
) -> Any:
    closed = windows.get_prev_partition_window(now)
    if closed is None:
        return dg.SkipReason("no window is closed yet")
    window = windows.get_partition_key_for_timestamp(closed.start.timestamp())
    slices = assets.batch.slices(window)
    if per_partition or len(slices) == 1:
        return [dg.RunRequest(run_key=s.key, partition_key=s.key) for s in slices]
    return dg.RunRequest(run_key=window, tags=assets.partitions.range_tags(slices))
