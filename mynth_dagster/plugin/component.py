"""
`MynthImagesComponent`: a batch as a dozen lines of YAML.

It adds no behaviour: every field goes to `build_image_batch`, the connection to `MynthResource`.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import AUTO_MODEL, CONCURRENCY_DEFAULT, TASK_DEADLINE_S
from mynth_dagster.models.batch import RequestDefaults
from mynth_dagster.models.request import Rating, RatingLevel
from mynth_dagster.plugin.assets import Overrides, get_asset_spec
from mynth_dagster.plugin.batch import DEFAULT_SENSOR_INTERVAL_S, build_image_batch
from mynth_dagster.plugin.bodies import BatchAssets, execute
from mynth_dagster.plugin.resource import MynthResource
from mynth_dagster.plugin.scaffolder import MynthImagesScaffolder
from mynth_dagster.wire import AUTO_REVISION

_TIME_WINDOWS: dict[str, Callable[..., dg.PartitionsDefinition]] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
}


class WindowsModel(dg.Model, dg.Resolvable):
    """The windows of a batch: time windows, or keys of your own."""

    type: Literal["hourly", "daily", "weekly", "monthly", "static"]
    start_date: str | None = Field(
        default=None, description="First window of a time type, such as 2026-11-01."
    )
    timezone: str = Field(default="UTC", description="IANA name of the windows' time zone.")
    end_offset: int = Field(
        default=0, description="1: the window that is going on now is a partition already."
    )
    keys: list[str] = Field(default_factory=list, description="The partition keys of static.")

    def definition(self) -> dg.PartitionsDefinition:
        """Dagster's definition of these windows."""
        if self.type == "static":
            if not self.keys:
                raise ConfigError("windows.keys", "static windows need keys")
            return dg.StaticPartitionsDefinition(self.keys)
        if self.start_date is None:
            raise ConfigError("windows.start_date", f"{self.type} windows need a start date")
        make = _TIME_WINDOWS[self.type]
        return make(self.start_date, timezone=self.timezone, end_offset=self.end_offset)


class RatingLevelModel(dg.Model, dg.Resolvable):
    """One level of a custom content rating."""

    value: str
    description: str


class DefaultsModel(dg.Model, dg.Resolvable):
    """What a row asks for where it says nothing itself."""

    negative_prompt: str | None = None
    size: str | None = Field(default=None, description="A preset, a ratio, …_4k, or auto.")
    count: int = Field(default=1, description="Images per row.")
    output_format: str | None = Field(default=None, description="png, jpg or webp.")
    output_quality: int | None = Field(default=None, description="Up to 100.")
    enhance: str | None = Field(default=None, description="magic or native, as the revision has.")
    rating: bool = Field(default=False, description="Rate each image's content.")
    rating_levels: list[RatingLevelModel] = Field(
        default_factory=list, description="Own levels, 2 to 7; none: Mynth's sfw and nsfw."
    )
    destination: str | None = Field(default=None, description="Name of a destination at Mynth.")
    webhook_urls: list[str] = Field(default_factory=list, description="Up to five endpoints.")
    mute_registered_webhooks: bool = False

    def values(self) -> RequestDefaults:
        """As `build_image_batch` takes them."""
        fields = self.model_dump(exclude={"rating", "rating_levels", "webhook_urls"})
        levels = tuple(RatingLevel(level.value, level.description) for level in self.rating_levels)
        rating = Rating(levels) if self.rating or levels else None
        return RequestDefaults(**fields, rating=rating, webhook_urls=tuple(self.webhook_urls))


@dg.scaffold_with(MynthImagesScaffolder)
class MynthImagesComponent(dg.Component, dg.Model, dg.Resolvable):
    """A table of prompts in, tables of images and failures out."""

    name: str = Field(description="Prefix of the asset keys and name of their group.")
    prompts: str = Field(
        description="Parquet file, folder or pattern, any fsspec URL; {window} is the window's key."
    )
    models: list[str] = Field(
        default_factory=lambda: [AUTO_MODEL], description="Each prompt is asked of each of these."
    )
    windows: WindowsModel | None = Field(default=None, description="None: no time windows.")
    shards: int = Field(default=1, description="Shards that the rows are spread over.")
    fan_out: Literal["shard", "model"] = Field(
        default="shard", description="model: one partition per model."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Our column name -> the table's own."
    )
    defaults: DefaultsModel = Field(default_factory=DefaultsModel)
    wait: Literal["sensor", "run"] = Field(
        default="sensor", description="sensor: no worker waits; run: collection waits in the run."
    )
    schedule: str | None = Field(default=None, description="Cron, for the last closed window.")
    runs: Literal["one", "per_partition"] = Field(
        default="one", description="Runs that the schedule starts for a window."
    )
    deadline_s: float = Field(
        default=TASK_DEADLINE_S, description="Seconds after which a pending task is stalled."
    )
    prices_usd: dict[str, str] = Field(
        default_factory=dict, description="USD per image by model, where Mynth tells no price."
    )
    budget_usd: dict[str, str] = Field(
        default_factory=dict,
        description="Caps in USD by partition, window and batch: spent, reserved and unknown "
        "together. Rows beyond them are withheld.",
    )
    on_unresolved: Literal["clear", "hold"] = Field(
        default="clear",
        description="clear: send a row again once its request is proved not accepted; hold: never.",
    )
    retries: int = Field(
        default=0,
        description="How often a row whose task failed is asked for again by itself, 0 to 10.",
    )
    identity: str | None = Field(default=None, description="Of the rows, to survive a rename.")
    sensor_interval_s: int = Field(
        default=DEFAULT_SENSOR_INTERVAL_S, description="Seconds between two looks of the sensor."
    )
    resource_key: str = Field(default="mynth", description="Key of the MynthResource.")
    api_key_env: str | None = Field(
        default=None,
        description="Environment variable that holds the API key. Without it no resource is "
        "registered, and your own under resource_key is used.",
    )
    root: str = Field(default="data", description="Folder or URL of the tables.")
    ledger_url: str = Field(default="", description="Empty: a SQLite file in a local root.")
    base_url: str = Field(default=DEFAULT_BASE_URL, description="Where the API is.")
    api_revision: str = Field(default=AUTO_REVISION, description="2026-04, 2026-08 or auto.")
    concurrency: int = Field(default=CONCURRENCY_DEFAULT, description="Requests in flight.")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The batch, and its resource where the key's variable is named."""
        batch = build_image_batch(
            self.name,
            prompts=self.prompts,
            models=self.models,
            windows=self.windows.definition() if self.windows else None,
            shards=self.shards,
            fan_out=self.fan_out,
            columns=self.columns,
            defaults=self.defaults.values(),
            wait=self.wait,
            schedule=self.schedule,
            runs=self.runs,
            deadline_s=self.deadline_s,
            prices_usd=_prices(self.prices_usd),
            budget_usd=self.budget_usd,
            on_unresolved=self.on_unresolved,
            retries=self.retries,
            identity=self.identity,
            resource_key=self.resource_key,
            sensor_interval_s=self.sensor_interval_s,
            overrides=Overrides(self.get_asset_spec, self.execute),
        )
        return dg.Definitions.merge(batch, dg.Definitions(resources=self._resources()))

    def get_asset_spec(self, assets: BatchAssets, table: str) -> dg.AssetSpec:
        """Override to change group, tags, owners, description or metadata of a table's asset."""
        return get_asset_spec(assets, table)

    def execute(
        self,
        context: dg.AssetExecutionContext,
        phase: str,
        mynth: MynthResource,
        assets: BatchAssets,
    ) -> Iterator[Any]:
        """Override to do something before or after `prepare`, `submit` or `collect`."""
        yield from execute(context, phase, mynth, assets)

    def _resources(self) -> Mapping[str, MynthResource]:
        if self.api_key_env is None:
            return {}
        connection = (
            self.api_key_env,
            self.root,
            self.ledger_url,
            self.base_url,
            self.api_revision,
            self.concurrency,
        )
        return {self.resource_key: _shared_resource(*connection)}


@lru_cache
def _shared_resource(
    api_key_env: str,
    root: str,
    ledger_url: str,
    base_url: str,
    api_revision: str,
    concurrency: int,
) -> MynthResource:
    """One object for equal settings: Dagster refuses two different ones under one key."""
    return MynthResource(
        api_key=dg.EnvVar(api_key_env),
        root=root,
        ledger_url=ledger_url,
        base_url=base_url,
        api_revision=api_revision,
        concurrency=concurrency,
    )


def _prices(by_model: Mapping[str, str]) -> dict[str, Decimal]:
    try:
        return {model: Decimal(price) for model, price in by_model.items()}
    except InvalidOperation:
        raise ConfigError("prices_usd", "amounts are texts such as '0.04'") from None
