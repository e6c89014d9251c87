"""`build_image_batch`: everything that Dagster needs to know of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import dagster as dg

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import AUTO_MODEL, TASK_DEADLINE_S
from mynth_dagster.models.batch import Batch, RequestDefaults
from mynth_dagster.models.budget import budget_from_usd
from mynth_dagster.plugin.assets import DEFAULT_OVERRIDES, Overrides, build_assets
from mynth_dagster.plugin.bodies import BatchAssets
from mynth_dagster.plugin.jobs import build_jobs, build_schedule
from mynth_dagster.plugin.partitions import BatchPartitions
from mynth_dagster.plugin.sensor import build_sensor
from mynth_dagster.tables.source import PromptSource, open_source

WINDOW_FIELD = "{window}"
DEFAULT_SENSOR_INTERVAL_S = 30


def build_image_batch(
    name: str,
    *,
    prompts: str,
    models: Sequence[str] = (AUTO_MODEL,),
    windows: dg.PartitionsDefinition | None = None,
    shards: int = 1,
    fan_out: Literal["shard", "model"] = "shard",
    columns: Mapping[str, str] | None = None,
    defaults: RequestDefaults | None = None,
    wait: Literal["sensor", "run"] = "sensor",
    schedule: str | None = None,
    runs: Literal["one", "per_partition"] = "one",
    deadline_s: float = TASK_DEADLINE_S,
    prices_usd: Mapping[str, Decimal] | None = None,
    budget_usd: Mapping[str, Decimal | str] | None = None,
    on_unresolved: Literal["clear", "hold"] = "clear",
    retries: int = 0,
    identity: str | None = None,
    resource_key: str = "mynth",
    sensor_interval_s: int = DEFAULT_SENSOR_INTERVAL_S,
    overrides: Overrides = DEFAULT_OVERRIDES,
) -> dg.Definitions:
    """
    Assets, jobs, completion sensor, schedule and checks of one batch.

    Args:
        name: Prefix of the asset keys and name of their group; letters, digits, underscores.
        prompts: Parquet file, folder or pattern, any fsspec URL; `{window}` stands for the key
            of the window (`prompts/{window}/*.parquet`).
        models: Each prompt without a model of its own is asked of each of these.
        windows: Time windows, files or other keys; None: the batch has only its fan-out.
        shards: Number of shards that the rows are spread over.
        fan_out: `shard`, or `model` for one partition per model.
        columns: Our column name -> the table's own, where they differ.
        defaults: What a row asks for where it says nothing itself.
        wait: `sensor`: the run ends after sending and a sensor collects later, no worker waits;
            `run`: collection waits inside the run.
        schedule: Cron expression for the last closed window; None: no schedule.
        runs: One run for all of a window's partitions, or one for each.
        deadline_s: Seconds after which a pending task counts as stalled.
        prices_usd: USD per image by model, used where Mynth tells no price.
        budget_usd: Caps in USD, by `partition`, `window` and `batch`: what is spent, reserved
            and unknown together; rows beyond them are withheld.
        on_unresolved: `clear`: a row whose request is proved not to have been accepted is sent
            again, where the revision has a task list; `hold`: a person decides.
        retries: How often a row whose task failed is asked for again by itself, 0 to 10, where
            another try may end otherwise; each is paid for if it succeeds.
        identity: Identity of the rows in the ledger, to survive a rename; default: the name.
        resource_key: Key of the `MynthResource`.
        sensor_interval_s: Seconds between two looks of the completion sensor.
        overrides: Other specs or bodies; what a subclass of the component passes.

    Raises:
        ConfigError: A setting is wrong; says which and what is allowed.
    """
    batch = Batch(
        name=name,
        models=tuple(models),
        fan_out=fan_out,
        shards=shards,
        columns=dict(columns or {}),
        defaults=defaults or RequestDefaults(),
        deadline_s=deadline_s,
        prices_usd=dict(prices_usd or {}),
        budget=budget_from_usd(budget_usd or {}),
        on_unresolved=on_unresolved,
        retries=retries,
        identity=identity,
        window_dimension=_window_dimension(windows),
    )
    assets = BatchAssets(batch, BatchPartitions(batch, windows), _opener(prompts, windows))
    phase = _scheduled_phase(wait)
    return dg.Definitions(
        assets=build_assets(assets, resource_key, overrides),
        jobs=build_jobs(assets),
        sensors=[build_sensor(assets, resource_key, interval_s=sensor_interval_s)],
        schedules=[]
        if schedule is None
        else [
            build_schedule(
                assets, cron=schedule, phase=phase, per_partition=runs == "per_partition"
            )
        ],
    )


def _scheduled_phase(wait: str) -> str:
    phases = {"sensor": "submit", "run": "all"}
    if wait not in phases:
        raise ConfigError("wait", f"{wait!r} is neither 'sensor' nor 'run'")
    return phases[wait]


def _window_dimension(windows: dg.PartitionsDefinition | None) -> str:
    """What the window is called in paths; sorts before `model` and `shard`, as Dagster needs."""
    if isinstance(windows, dg.TimeWindowPartitionsDefinition):
        return "date"
    return "file" if isinstance(windows, dg.DynamicPartitionsDefinition) else "key"


def _opener(prompts: str, windows: dg.PartitionsDefinition | None) -> Callable[[str], PromptSource]:
    if WINDOW_FIELD in prompts and windows is None:
        raise ConfigError("prompts", f"{WINDOW_FIELD} stands for a window, and there are none")

    def open_window(window: str) -> PromptSource:
        return open_source(prompts.replace(WINDOW_FIELD, window))

    return open_window
