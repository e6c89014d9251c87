"""`build_image_batch` and `@mynth_assets`: all of Dagster's definitions of one batch."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property
from types import FrameType
from typing import Literal

import dagster as dg

from mynth_dagster.errors import ConfigError
from mynth_dagster.extras import require_extra
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import Checks, Delivery, ImageRequest, Prompts, Spending
from mynth_dagster.models.money import usd_from_units
from mynth_dagster.plugin.assets import Body, build_assets, plain_body
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.plugin.file_sensor import WINDOW_FIELD, PromptFolder, build_file_sensor
from mynth_dagster.plugin.jobs import build_jobs, build_operations, build_schedule, job_name
from mynth_dagster.plugin.partitions import BatchPartitions
from mynth_dagster.plugin.sensors import build_sensor
from mynth_dagster.plugin.settings import Execution
from mynth_dagster.plugin.translator import MynthTranslator, with_keys
from mynth_dagster.plugin.upstream_input import upstream_from
from mynth_dagster.tables.prompts import require_sound_settings
from mynth_dagster.tables.source import PromptSource, open_source


def build_image_batch(
    name: str,
    *,
    prompts: str | Prompts | dg.AssetKey | dg.AssetIn,
    request: ImageRequest = ImageRequest(),
    partitions_def: dg.PartitionsDefinition | None = None,
    fan_out: int | Literal["model"] = 1,
    spending: Spending = Spending(),
    delivery: Delivery = Delivery(),
    checks: Checks = Checks(),
    schedule: str | None = None,
    execution: Execution = Execution(),
    translator: MynthTranslator | None = None,
) -> dg.Definitions:
    """
    Build the assets, jobs, sensors, schedule and checks of one batch.

    Args:
        name: Prefix of the asset keys and name of their group; letters, digits, underscores.
        prompts: Where the prompt rows are: a Parquet file, folder or pattern, any fsspec URL, or
            the key of an asset that returns a DataFrame or an Arrow table; `Prompts` for more.
        request: What is asked of Mynth: models, sizes, counts, ratings, follow-ups.
        partitions_def: Windows of time, files or other keys; None: the batch has only its
            fan-out. With a `DynamicPartitionsDefinition` and `prompts="inbox/{window}.parquet"`,
            a sensor adds a partition for each file that appears.
        fan_out: In how many shards the rows of a window are partitioned, 1 to 1000; or `model`,
            for one partition per model.
        spending: Prices, caps, retries, what to do with unresolved rows.
        delivery: How results are waited for, and what is kept of them.
        checks: What the checks allow.
        schedule: Cron expression for the last closed window; None: no schedule.
        execution: Runs, pools, tags, processes, owners.
        translator: Other asset specs.

    Raises:
        ConfigError: A setting is wrong; says which and what is allowed.
    """
    return mynth_assets(
        name,
        prompts=prompts,
        request=request,
        partitions_def=partitions_def,
        fan_out=fan_out,
        spending=spending,
        delivery=delivery,
        checks=checks,
        schedule=schedule,
        execution=execution,
        translator=translator,
    )(plain_body).definitions


class MynthAssets(list[dg.AssetsDefinition]):
    """
    The assets of one batch, one definition for each of its steps.

    A list, for `dg.Definitions(assets=...)`; `definitions` has the jobs, sensors and the schedule
    of the batch, too.
    """

    def __init__(
        self,
        definitions: Iterable[dg.AssetsDefinition],
        assets: BatchAssets,
        folder: PromptFolder | None,
        schedule: str | None,
    ) -> None:
        super().__init__(definitions)
        self._assets, self._folder, self._schedule = assets, folder, schedule

    @cached_property
    def definitions(self) -> dg.Definitions:
        """All of Dagster's definitions of the batch; the `MynthResource` is yours."""
        assets, delivery = self._assets, self._assets.batch.delivery
        phase = "submit" if delivery.wait == "sensor" else "all"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)  # owners are our choice, not the user's
            jobs = build_jobs(assets)
            sensors = [build_sensor(assets, jobs)]
            if self._folder is not None:
                job = job_name(assets.batch.name, phase)
                sensors.append(build_file_sensor(assets, self._folder, job=job))
            return dg.Definitions(
                assets=self,
                jobs=[*jobs, *build_operations(assets)],
                sensors=sensors,
                schedules=[]
                if self._schedule is None
                else [build_schedule(assets, cron=self._schedule, phase=phase)],
            )


def mynth_assets(
    name: str,
    *,
    prompts: str | Prompts | dg.AssetKey | dg.AssetIn,
    request: ImageRequest = ImageRequest(),
    partitions_def: dg.PartitionsDefinition | None = None,
    fan_out: int | Literal["model"] = 1,
    spending: Spending = Spending(),
    delivery: Delivery = Delivery(),
    checks: Checks = Checks(),
    schedule: str | None = None,
    execution: Execution = Execution(),
    translator: MynthTranslator | None = None,
) -> Callable[[Body], MynthAssets]:
    """
    Make the assets of one batch out of a body that is run in each of its steps.

    Example:
        @mynth_assets("shots", prompts="prompts.parquet")
        def shots(context, mynth):
            context.log.info("before")
            yield from mynth.run(context)

        defs = shots.definitions

    `mynth.run(context)` does the work of the step that `context` is of, and yields its
    `MaterializeResult`s and `AssetCheckResult`s. A body that yields nothing skips the step.
    Further parameters of the body are resources by their names.

    Args: as of `build_image_batch`.

    Raises:
        ConfigError: A setting is wrong; says which and what is allowed.
    """
    source = prompts if isinstance(prompts, Prompts) else _prompts(prompts)
    batch = Batch(
        name,
        source,
        request,
        spending,
        delivery,
        fan_out=fan_out,
        window_dimension=_window_dimension(partitions_def),
    )
    require_sound_settings(batch)
    if delivery.previews:
        require_extra("files", "delivery.previews")
    if checks.budget_usd_per_window is None and spending.budget.window_units is not None:
        cap = usd_from_units(spending.budget.window_units)
        checks = checks.model_copy(update={"budget_usd_per_window": cap})
    _require_levels(checks, request)
    folder = _prompt_folder(source, partitions_def)
    translator = translator or MynthTranslator()
    assets = BatchAssets(
        batch,
        BatchPartitions(batch, partitions_def),
        _opener(source, partitions_def, folder),
        checks=checks,
        execution=execution,
        origin=_caller(),
        upstream=upstream_from(source.asset),
    )
    assets = with_keys(assets, translator)

    def decorate(body: Body) -> MynthAssets:
        return MynthAssets(build_assets(assets, translator, body), assets, folder, schedule)

    return decorate


def _prompts(prompts: str | dg.AssetKey | dg.AssetIn) -> Prompts:
    return Prompts(location=prompts) if isinstance(prompts, str) else Prompts(asset=prompts)


def _require_levels(checks: Checks, request: ImageRequest) -> None:
    """Refuse a forbidden level that no image can have: it would forbid nothing."""
    if request.rating is None:
        return
    levels = [level.value for level in request.rating.levels] or ["sfw", "nsfw"]
    strange = [level for level in checks.forbidden_levels if level not in levels]
    if strange:
        reason = f"{strange[0]!r} is no level of the rating; they are {', '.join(levels)}"
        raise ConfigError("checks.forbidden_levels", reason)


def _window_dimension(windows: dg.PartitionsDefinition | None) -> str:
    """Return the window's name in paths; it sorts before `model` and `shard`, as Dagster needs."""
    if isinstance(windows, dg.TimeWindowPartitionsDefinition):
        return "date"
    return "file" if isinstance(windows, dg.DynamicPartitionsDefinition) else "key"


def _prompt_folder(
    prompts: Prompts, windows: dg.PartitionsDefinition | None
) -> PromptFolder | None:
    is_dynamic = isinstance(windows, dg.DynamicPartitionsDefinition)
    if is_dynamic and prompts.location is not None and WINDOW_FIELD in prompts.location:
        return PromptFolder.of(prompts.location)
    return None


def _opener(
    prompts: Prompts, windows: dg.PartitionsDefinition | None, folder: PromptFolder | None
) -> Callable[[str], PromptSource]:
    if prompts.location is None and prompts.asset is None:
        raise ConfigError("prompts", "one of location (a path) and asset (a key) is needed")
    location = prompts.location or ""
    if WINDOW_FIELD in location and windows is None:
        reason = f"{WINDOW_FIELD} stands for a window, and there is no partitions_def"
        raise ConfigError("prompts", reason)

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
            file_path=path, line_number=line, label="where the batch is defined"
        )
        return dg.CodeReferencesMetadataValue(code_references=[found])


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
