"""`build_image_batch`: all of Dagster's definitions of one batch."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from types import FrameType
from typing import Literal

import dagster as dg

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import AUTO_MODEL, CONFIRM_ABOVE_USD, TASK_DEADLINE_S, THUMBNAILS_MAX
from mynth_dagster.models.batch import Batch, FileSettings, RequestDefaults
from mynth_dagster.models.money import budget_from_usd, usd_from_units
from mynth_dagster.plugin.assets import (
    DEFAULT_OVERRIDES,
    PHASES,
    Overrides,
    build_assets,
    with_keys,
)
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.plugin.checks import DEFAULT_LIMITS, CheckLimits
from mynth_dagster.plugin.file_sensor import WINDOW_FIELD, PromptFolder, build_file_sensor
from mynth_dagster.plugin.follow_ups import FollowUp
from mynth_dagster.plugin.jobs import build_jobs, build_operations, build_schedule, job_name
from mynth_dagster.plugin.partitions import BatchPartitions
from mynth_dagster.plugin.sensors import build_sensor
from mynth_dagster.plugin.settings import usd_from_setting
from mynth_dagster.plugin.upstream_input import upstream_from
from mynth_dagster.tables.prompts import require_sound_defaults
from mynth_dagster.tables.source import PromptSource, open_source

DEFAULT_SENSOR_INTERVAL_S = 30
DEFAULT_POOLS = {
    "submit": "mynth_submit",
    "collect": "mynth_collect",
    "download": "mynth_download",
}


def build_image_batch(
    name: str,
    *,
    prompts: str | dg.AssetKey | dg.AssetIn,
    models: Sequence[str] = (AUTO_MODEL,),
    windows: dg.PartitionsDefinition | None = None,
    shards: int = 1,
    fan_out: Literal["shard", "model"] = "shard",
    columns: Mapping[str, str | None] | None = None,
    defaults: RequestDefaults | None = None,
    wait: Literal["sensor", "run"] = "sensor",
    schedule: str | None = None,
    runs: Literal["one", "per_partition"] = "one",
    deadline_s: float = TASK_DEADLINE_S,
    prices_usd: Mapping[str, Decimal] | None = None,
    budget_usd: Mapping[str, Decimal | str] | None = None,
    confirm_above_usd: Decimal | str = CONFIRM_ABOVE_USD,
    on_unresolved: Literal["resubmit", "hold"] = "resubmit",
    retries: int = 0,
    auto_resubmit: bool = True,
    inputs_root: str | None = None,
    check_capabilities: bool = True,
    identity: str | None = None,
    files: FileSettings | None = None,
    url_lifetime_s: float | None = None,
    follow_ups: Sequence[FollowUp] = (),
    previews: int = 0,
    checks: CheckLimits = DEFAULT_LIMITS,
    freshness: dg.FreshnessPolicy | None = None,
    pools: Mapping[str, str] | None = None,
    resource_key: str = "mynth",
    sensor_interval_s: int = DEFAULT_SENSOR_INTERVAL_S,
    overrides: Overrides = DEFAULT_OVERRIDES,
) -> dg.Definitions:
    """
    Assets, jobs, sensors, schedule and checks of one batch.

    Args:
        name: Prefix of the asset keys and name of their group; letters, digits, underscores.
        prompts: Parquet file, folder or pattern, any fsspec URL; `{window}` stands for the key
            of the window (`prompts/{window}/*.parquet`). Or the key of an asset that returns a
            DataFrame or an Arrow table, unpartitioned or with windows as long or shorter; an
            `AssetIn` where its IO manager or partition mapping has to be named.
        models: Each prompt without a model of its own is sent to each of these.
        windows: Time windows, files or other keys; None: the batch has only its fan-out. With a
            `DynamicPartitionsDefinition` and `prompts="inbox/{window}.parquet"`, a sensor adds a
            partition for each file that appears.
        shards: Number of shards that the rows are spread over, 1 to 1000.
        fan_out: `shard`, or `model` for one partition per model.
        columns: Our column name -> the table's own, where they differ; None: the table's column
            of our name is one of your own, and carried.
        defaults: The values of columns that a row leaves empty.
        wait: `sensor`: the run ends after sending and a sensor collects later, no worker waits;
            `run`: collection waits inside the run.
        schedule: Cron expression for the last closed window; None: no schedule.
        runs: `one` run for all of a window's partitions, or one `per_partition`.
        deadline_s: Seconds after which a pending task counts as stalled.
        prices_usd: USD per image by model, used where Mynth gives no price.
        budget_usd: Caps in USD, by `partition`, `window` and `batch`: what is spent, reserved
            and unknown together; rows beyond them are withheld.
        confirm_above_usd: Where models or defaults changed since rows were paid for: more than this
            is paid for them again only with `confirm: true`.
        on_unresolved: `resubmit`: a row whose request is proved not to have been accepted is sent
            again, where the revision has a task list; `hold`: a person decides.
        retries: How often a row whose task failed is sent again automatically, 0 to 10, where
            another try may end otherwise; each is paid for if it succeeds.
        auto_resubmit: Whether the sensor starts a run by itself for rows that were not sent because
            of a rate limit or an outage, or were proved not accepted; never for money or a refused
            key.
        inputs_root: Folder, any fsspec URL, at which paths of input files start and outside of
            which none is read; None: they start at the table's folder and may lie anywhere.
        check_capabilities: Whether rows are rejected that need what their model is known to
            lack: input images, 4k.
        identity: Identity of the rows in the ledger, to survive a rename; None: the name.
        files: Whether and how the files of images are kept, as an asset `files`; None: only
            their URLs are.
        url_lifetime_s: Seconds for which Mynth serves an image after its completion, if you
            know it: 7 days in 2026-10, not documented before. None: as the revision documents,
            and `url_expires_at` is null if it does not.
        follow_ups: What is asked of Mynth about each image, a paid task each, as assets `ratings`,
            `alt_texts` and `reviews`; revision 2026-04 has none.
        previews: Thumbnails made of each partition while collecting, 0 to 24, and shown in the
            UI; about 4 KB of metadata each, kept with every materialization.
        checks: What the checks allow before they warn or fail.
        freshness: How old `images` may be; None: no policy.
        pools: Concurrency pools by phase (`prepare`, `submit`, `collect`, `download`); None:
            `mynth_submit`, `mynth_collect` and `mynth_download`, which limit nothing until the
            instance gives them a limit.
        resource_key: Key of the `MynthResource`.
        sensor_interval_s: Seconds between two ticks of a sensor.
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
        confirm_above_usd=usd_from_setting("confirm_above_usd", confirm_above_usd),
        on_unresolved=on_unresolved,
        retries=retries,
        inputs_root=inputs_root,
        check_capabilities=check_capabilities,
        identity=identity,
        files=files,
        url_lifetime_s=url_lifetime_s,
        window_dimension=_window_dimension(windows),
    )
    require_sound_defaults(batch)
    if not 0 <= previews <= THUMBNAILS_MAX:
        raise ConfigError("previews", f"{previews} is not between 0 and {THUMBNAILS_MAX}")
    if checks.budget_usd_per_window is None and batch.budget.window_units is not None:
        cap = usd_from_units(batch.budget.window_units)
        checks = replace(checks, budget_usd_per_window=cap)
    folder = _prompt_folder(prompts, windows)
    assets = BatchAssets(
        batch,
        BatchPartitions(batch, windows),
        _opener(prompts, windows, folder),
        checks=checks,
        n_previews=previews,
        freshness=freshness,
        pools=_pools(pools),
        origin=_caller(),
        upstream=upstream_from(prompts),
        follow_ups=tuple(follow_ups),
        auto_resubmit=auto_resubmit,
    )
    for asked in follow_ups:
        asked.of(batch)  # a wrong one fails when the batch is defined
    _require_levels(checks, batch.defaults)
    assets = with_keys(assets, overrides)
    phase = _scheduled_phase(wait)
    jobs = build_jobs(assets)
    sensors = [build_sensor(assets, resource_key, jobs, interval_s=sensor_interval_s)]
    if folder is not None:
        job = job_name(name, phase)
        sensors.append(
            build_file_sensor(
                assets, folder, name=f"{name}_new_files", job=job, interval_s=sensor_interval_s
            )
        )
    return dg.Definitions(
        assets=build_assets(assets, resource_key, overrides),
        jobs=[*jobs, *build_operations(assets, resource_key)],
        sensors=sensors,
        schedules=[]
        if schedule is None
        else [
            build_schedule(
                assets, cron=schedule, phase=phase, per_partition=runs == "per_partition"
            )
        ],
    )


def _require_levels(checks: CheckLimits, defaults: RequestDefaults) -> None:
    """Refuse a forbidden level that no image can have: it would forbid nothing."""
    if defaults.rating is None:
        return
    levels = [level.value for level in defaults.rating.levels] or ["sfw", "nsfw"]
    strange = [level for level in checks.forbidden_levels if level not in levels]
    if strange:
        reason = f"{strange[0]!r} is no level of the rating; they are {', '.join(levels)}"
        raise ConfigError("checks.forbidden_levels", reason)


def _scheduled_phase(wait: str) -> str:
    phases = {"sensor": "submit", "run": "all"}
    if wait not in phases:
        raise ConfigError("wait", f"{wait!r} is neither 'sensor' nor 'run'")
    return phases[wait]


def _window_dimension(windows: dg.PartitionsDefinition | None) -> str:
    """Return the window's name in paths; it sorts before `model` and `shard`, as Dagster needs."""
    if isinstance(windows, dg.TimeWindowPartitionsDefinition):
        return "date"
    return "file" if isinstance(windows, dg.DynamicPartitionsDefinition) else "key"


def _pools(pools: Mapping[str, str] | None) -> Mapping[str, str]:
    unknown = sorted(set(pools or {}) - set(PHASES))
    if unknown:
        raise ConfigError("pools", f"{unknown[0]!r} is none of {', '.join(map(repr, PHASES))}")
    return DEFAULT_POOLS if pools is None else dict(pools)


def _prompt_folder(
    prompts: str | dg.AssetKey | dg.AssetIn, windows: dg.PartitionsDefinition | None
) -> PromptFolder | None:
    is_dynamic = isinstance(windows, dg.DynamicPartitionsDefinition)
    if is_dynamic and isinstance(prompts, str) and WINDOW_FIELD in prompts:
        return PromptFolder.of(prompts)
    return None


def _opener(
    prompts: str | dg.AssetKey | dg.AssetIn,
    windows: dg.PartitionsDefinition | None,
    folder: PromptFolder | None,
) -> Callable[[str], PromptSource]:
    location = prompts if isinstance(prompts, str) else ""
    if WINDOW_FIELD in location and windows is None:
        raise ConfigError("prompts", f"{WINDOW_FIELD} stands for a window, and there are none")

    def open_window(window: str) -> PromptSource:
        if folder is not None:
            return open_source(folder.location(window))
        return open_source(location.replace(WINDOW_FIELD, window))

    return open_window


def _caller() -> dg.CodeReferencesMetadataValue | None:
    """Return where the batch is defined; None in a component, which Dagster finds in its YAML."""
    frame = inspect.currentframe()
    while frame is not None and _package_of(frame) == "mynth_dagster":
        frame = frame.f_back
    if frame is None or _package_of(frame) == "dagster":
        return None
    path, line = frame.f_code.co_filename, frame.f_lineno
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # our choice, not the user's
        found = dg.LocalFileCodeReference(
            file_path=path, line_number=line, label="build_image_batch"
        )
        return dg.CodeReferencesMetadataValue(code_references=[found])


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
