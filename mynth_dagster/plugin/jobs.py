"""The jobs of a batch and its nightly schedule."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dagster as dg

from mynth_dagster.engine.plan import Retry
from mynth_dagster.errors import ConfigError
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.inspections import tables_of
from mynth_dagster.plugin.upstream import FittingAssets

_TABLES = {
    "submit": ("prompts", "tasks"),
    "collect": ("images", "failures"),
    "all": ("prompts", "tasks", "images", "failures"),
    "retry": ("prompts", "tasks"),
}
_DESCRIPTIONS = {
    "submit": "Checks the prompts and sends what is missing; the sensor collects. In the "
    "launchpad: `prompt_ids` limits it to some rows.",
    "collect": "Waits for tasks and writes images and failures; reads only, costs nothing. Keeps "
    "the images' files too, where the batch has `files`.",
    "all": "Checks, sends, waits and collects in one run, with files and looks at the images where "
    "the batch has them.",
    "inspect": "Has the images rated, described or reviewed, as the batch says; a paid task for "
    "each image that was not asked about.",
    "retry": "Asks again for rows that failed and may end otherwise, each paid for anew. In the "
    "launchpad: `retry: failed` for all failed or refused rows, `retry: partial` for those that "
    "lack some images, `force: true` for every finished row, `prompt_ids` for some rows only.",
}


def job_name(batch: str, doing: str) -> str:
    """`<batch>_submit`, `<batch>_collect`, `<batch>_all`, `<batch>_retry`, `<batch>_inspect`."""
    return f"{batch}_{doing}"


def build_jobs(assets: BatchAssets) -> list[Any]:
    """
    The jobs over assets: explicit keys, in one process.

    A step of its own process costs seconds; what is parallel here is inside the step.
    """
    name = assets.batch.name
    asked = {"ops": {f"{name}__submit": {"config": {"retry": Retry.RETRYABLE.value}}}}
    return [
        dg.define_asset_job(
            job_name(name, doing),
            selection=FittingAssets(assets, *tables),
            config=asked if doing == "retry" else None,
            executor_def=dg.in_process_executor,
            description=_DESCRIPTIONS[doing],
        )
        for doing, tables in _tables(assets).items()
    ]


def _tables(assets: BatchAssets) -> dict[str, tuple[str, ...]]:
    """What each job makes; files come with what is collected, where they are kept."""
    files = (FILES,) if FILES in assets.names else ()
    looks = tables_of(assets.inspections)
    tables = dict(_TABLES)
    tables["collect"] += files
    tables["all"] += (*files, *looks)
    return {**tables, "inspect": looks} if looks else tables


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
