"""
`MynthImagesComponent`: a batch as a dozen lines of YAML.

It adds no behaviour: every field goes to `build_image_batch`, the connection to `MynthResource`.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import Field

from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import (
    AUTO_MODEL,
    CONCURRENCY_DEFAULT,
    CONFIRM_ABOVE_USD,
    IMAGE_HOSTS,
    TASK_DEADLINE_S,
    UPLOAD_LIFETIME_S,
)
from mynth_dagster.plugin.assets import Overrides, get_asset_spec
from mynth_dagster.plugin.batch import DEFAULT_SENSOR_INTERVAL_S, build_image_batch
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.plugin.execution import execute
from mynth_dagster.plugin.resource import MynthResource, shared_resource
from mynth_dagster.plugin.settings import (
    Amount,
    ChecksModel,
    DefaultsModel,
    FilesModel,
    FollowUpModel,
    FreshnessModel,
    WindowsModel,
    usd_from_setting,
)
from mynth_dagster.wire import AUTO_REVISION

# The file that `dg scaffold defs mynth_dagster.MynthImagesComponent <folder>` writes.


_TEMPLATE = """\
type: mynth_dagster.MynthImagesComponent

attributes:
  # Prefix of the asset keys (<name>/prompts, <name>/tasks, <name>/images, <name>/failures).
  name: {name}
  # Parquet file, folder or pattern, any fsspec URL; {window} stands for the window's key.
  # Or prompts_asset: the key of an asset that returns a DataFrame or an Arrow table.
  prompts: prompts.parquet
  # Each prompt is sent to each of these.
  models:
    - google/gemini-3.1-flash-image
  # Time windows: hourly, daily, weekly or monthly; static with keys; or files, for one
  # partition per file that appears. Leave out for none.
  windows:
    type: daily
    start_date: "2026-01-01"
  # The rows of a window are spread over this many partitions.
  shards: 4
  # Our column -> the table's own, where they differ.
  # columns: {prompt_id: sku}
  defaults:
    size: landscape
    count: 1
  # Caps in USD: what does not fit is not sent. Where Mynth gives no price, set prices_usd.
  # budget_usd: {window: 25.00, batch: 500.00}
  # sensor: the run ends after sending and a sensor collects; run: the run waits.
  wait: sensor
  # Cron expression, for the last closed window.
  # schedule: "30 1 * * *"
  # Download every image: beside the tables, or under any fsspec URL ({store: "s3://bucket"}).
  # files: {}
  # Thumbnails of each partition in Dagster's UI, 0 to 24.
  previews: 12
  # What the checks allow, as shares of a partition, and in USD for a window afterwards.
  # checks: {failure_rate_warn: 0.05, failure_rate_error: 0.5, budget_usd_per_window: 25.00}
  # How old images may be.
  # freshness: {fail_after_hours: 30, warn_after_hours: 26}
  # Keys, groups, tags and owners of the assets, as templates.
  # translation: {key: "studio/{{ batch }}/{{ table }}", owners: ["team:studio"]}
  # Where the tables lie; the ledger is a SQLite file in it unless ledger_url says otherwise.
  root: data
  # The environment variable that holds the API key; the key itself never stands here.
  api_key_env: MYNTH_API_KEY
  # A simulated Mynth for trying out: mynth-dagster simulate
  # base_url: http://127.0.0.1:8787
"""


class MynthImagesScaffolder(dg.Scaffolder[Any]):
    """Writes a commented `defs.yaml`."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        name = "".join(char if char.isalnum() else "_" for char in request.target_path.name)
        request.target_path.mkdir(parents=True, exist_ok=True)
        text = _TEMPLATE.replace("{name}", name)
        (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")


def _translation_scope(data: tuple[str, str]) -> Mapping[str, Any]:
    """Return the names that the templates of `translation` may use."""
    batch, table = data
    return {"batch": batch, "table": table}


@dg.scaffold_with(MynthImagesScaffolder)
class MynthImagesComponent(dg.Component, dg.Model, dg.Resolvable):
    """A table of prompts in, tables of images and failures out."""

    name: str = Field(description="Prefix of the asset keys and name of their group.")
    prompts: str | None = Field(
        default=None,
        description="Parquet file, folder or pattern, any fsspec URL; {window} is the window's "
        "key. Either this or prompts_asset.",
    )
    prompts_asset: str | None = Field(
        default=None,
        description="Key of an asset (a/b) that returns a DataFrame or an Arrow table, "
        "unpartitioned or with windows as long or shorter.",
    )
    models: list[str] = Field(
        default_factory=lambda: [AUTO_MODEL],
        description="Each prompt without a model of its own is sent to each of these.",
    )
    windows: WindowsModel | None = Field(
        default=None, description="Left out: the batch has only its fan-out."
    )
    shards: int = Field(default=1, description="Shards that the rows are spread over, 1 to 1000.")
    fan_out: Literal["shard", "model"] = Field(
        default="shard", description="shard, or model for one partition per model."
    )
    columns: dict[str, str | None] = Field(
        default_factory=dict,
        description="Our column name -> the table's own, where they differ: {prompt_id: sku}.",
    )
    defaults: DefaultsModel = Field(
        default_factory=DefaultsModel,
        description="The values of columns that a row leaves empty.",
    )
    wait: Literal["sensor", "run"] = Field(
        default="sensor",
        description="sensor: the run ends after sending and a sensor collects, no worker waits; "
        "run: collection waits in the run.",
    )
    schedule: str | None = Field(
        default=None,
        description="Cron expression, such as 30 1 * * *, for the last closed time window.",
    )
    runs: Literal["one", "per_partition"] = Field(
        default="one", description="one run for all of a window's partitions, or one per_partition."
    )
    deadline_s: float = Field(
        default=TASK_DEADLINE_S, description="Seconds after which a pending task counts as stalled."
    )
    prices_usd: dict[str, Amount] = Field(
        default_factory=dict, description="USD per image by model, where Mynth gives no price."
    )
    budget_usd: dict[str, Amount] = Field(
        default_factory=dict,
        description="Caps in USD by partition, window and batch: spent, reserved and unknown "
        "together. Rows beyond them are withheld.",
    )
    confirm_above_usd: Amount = Field(
        default=str(CONFIRM_ABOVE_USD),
        description="After a change of models or defaults: pay no more USD again unconfirmed.",
    )
    on_unresolved: Literal["resubmit", "hold"] = Field(
        default="resubmit",
        description="resubmit: send a row again once its request is proved not accepted; "
        "hold: never.",
    )
    retries: int = Field(
        default=0,
        description="How often a row whose task failed is sent again automatically, 0 to 10.",
    )
    auto_resubmit: bool = Field(
        default=True,
        description="Whether the sensor starts a run by itself for rows that were not sent because "
        "of a rate limit or an outage, or were proved not accepted; never for money or a refused "
        "key.",
    )
    inputs_root: str | None = Field(
        default=None,
        description="Folder, any fsspec URL, at which paths of input files start and outside of "
        "which none is read; left out: they start at the table's folder and may lie anywhere.",
    )
    check_capabilities: bool = Field(
        default=True,
        description="Reject rows that need what their model is known to lack: inputs, 4k.",
    )
    identity: str | None = Field(
        default=None,
        description="Identity of the rows in the ledger, to survive a rename; left out: the name.",
    )
    files: FilesModel | None = Field(
        default=None,
        description="Whether and how the files of images are kept, as an asset files; {} keeps "
        "them beside the tables. Left out: only their URLs are.",
    )
    url_lifetime_s: float | None = Field(
        default=None,
        description="Seconds for which Mynth serves an image after its completion, if you know "
        "it (7 days in 2026-10, not documented before). "
        "Left out: as the revision documents.",
    )
    follow_ups: list[FollowUpModel] = Field(
        default_factory=list,
        description="What is asked of Mynth about each image, a paid task each, as assets ratings, "
        "alt_texts and reviews; revision 2026-04 has none.",
    )
    previews: int = Field(
        default=0,
        description="Thumbnails made of each partition while collecting, 0 to 24, and shown in "
        "the UI; about 4 KB of metadata each.",
    )
    checks: ChecksModel = Field(
        default_factory=ChecksModel, description="What the checks allow before they warn or fail."
    )
    freshness: FreshnessModel | None = Field(
        default=None, description="How old images may be; left out: no policy."
    )
    pools: dict[str, str] | None = Field(
        default=None,
        description="Concurrency pools by phase (prepare, submit, collect, download); left out: "
        "mynth_submit, mynth_collect and mynth_download.",
    )
    translation: (
        Annotated[TranslationFn[tuple[str, str]], TranslationFnResolver(_translation_scope)] | None
    ) = Field(
        default=None,
        description="What the assets are called and belong to: key, key_prefix, group_name, tags, "
        "owners, kinds, description, as templates with {{ batch }}, {{ table }} and {{ spec }}.",
    )
    sensor_interval_s: int = Field(
        default=DEFAULT_SENSOR_INTERVAL_S, description="Seconds between two ticks of a sensor."
    )
    resource_key: str = Field(default="mynth", description="Key of the MynthResource.")
    api_key_env: str | None = Field(
        default=None,
        description="Environment variable that holds the API key. Without it no resource is "
        "registered, and your own under resource_key is used.",
    )
    root: str = Field(
        default="data", description="Folder or fsspec URL under which the tables are written."
    )
    ledger_url: str = Field(
        default="",
        description="SQLAlchemy URL of the ledger; empty: a SQLite file in a local root.",
    )
    journal_dir: str = Field(
        default="",
        description="Local folder for paid responses while the ledger cannot be written. Empty: "
        "beside a SQLite ledger, else in a local root, else among temporary files.",
    )
    upload_lifetime_s: float = Field(
        default=UPLOAD_LIFETIME_S,
        description="Seconds for which the URL of an uploaded input file is used again.",
    )
    base_url: str = Field(default=DEFAULT_BASE_URL, description="Where the API is.")
    api_revision: str = Field(
        default=AUTO_REVISION,
        description="2026-10, 2026-08, 2026-04, or auto to detect it, free of charge.",
    )
    concurrency: int = Field(
        default=CONCURRENCY_DEFAULT, description="Requests in flight at most, per run."
    )
    image_hosts: list[str] = Field(
        default_factory=lambda: list(IMAGE_HOSTS),
        description="Hosts that images are fetched from by https, without the key, besides the "
        "API's own.",
    )
    any_public_host: bool = Field(
        default=False,
        description="Fetch images from any other host too, by public addresses alone.",
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the batch, and its resource if the key's variable is named."""
        batch = build_image_batch(
            self.name,
            prompts=self._source(),
            models=self.models,
            windows=self.windows.definition(self.name) if self.windows else None,
            shards=self.shards,
            fan_out=self.fan_out,
            columns=self.columns,
            defaults=self.defaults.values(),
            wait=self.wait,
            schedule=self.schedule,
            runs=self.runs,
            deadline_s=self.deadline_s,
            prices_usd=_prices(self.prices_usd),
            budget_usd={
                scope: usd_from_setting("budget_usd", cap) for scope, cap in self.budget_usd.items()
            },
            confirm_above_usd=usd_from_setting("confirm_above_usd", self.confirm_above_usd),
            on_unresolved=self.on_unresolved,
            retries=self.retries,
            auto_resubmit=self.auto_resubmit,
            inputs_root=self.inputs_root,
            check_capabilities=self.check_capabilities,
            identity=self.identity,
            files=self.files.settings() if self.files is not None else None,
            url_lifetime_s=self.url_lifetime_s,
            follow_ups=[asked.values() for asked in self.follow_ups],
            previews=self.previews,
            checks=self.checks.limits(),
            freshness=self.freshness.policy() if self.freshness else None,
            pools=self.pools,
            resource_key=self.resource_key,
            sensor_interval_s=self.sensor_interval_s,
            overrides=Overrides(self.get_asset_spec, self.execute),
        )
        self._require_own_resource_key(context)
        return dg.Definitions.merge(batch, dg.Definitions(resources=self._resources()))

    def get_asset_spec(self, assets: BatchAssets, table: str) -> dg.AssetSpec:
        """Override to change key, group, tags, owners or metadata of a table's asset."""
        spec = get_asset_spec(assets, table)
        return self.translation(spec, (self.name, table)) if self.translation else spec

    def execute(
        self,
        context: dg.AssetExecutionContext,
        phase: str,
        mynth: MynthResource,
        assets: BatchAssets,
    ) -> Iterator[Any]:
        """Override to do something before or after `prepare`, `submit`, `collect` or `download`."""
        yield from execute(context, phase, mynth, assets)

    def _source(self) -> str | dg.AssetKey:
        if self.prompts is not None and self.prompts_asset is None:
            return self.prompts
        if self.prompts_asset is not None and self.prompts is None:
            return dg.AssetKey.from_user_string(self.prompts_asset)
        raise ConfigError("prompts", "one of prompts (a path) and prompts_asset (a key) is needed")

    def _require_own_resource_key(self, context: dg.ComponentLoadContext) -> None:
        """Refuse two connections under one key: Dagster's own message would not name the fields."""
        mine = self._resources().get(self.resource_key)
        tree = getattr(context, "component_tree", None)  # none where somebody builds it by hand
        for other in tree.get_all_components(MynthImagesComponent) if tree else ():
            theirs = other._resources().get(self.resource_key)  # noqa: SLF001 - of this class
            fields = MynthResource.model_fields
            differing = [f for f in fields if getattr(mine, f, "") != getattr(theirs, f, "")]
            if mine and theirs and differing:
                reason = (
                    f"{self.name} and {other.name} have {self.resource_key!r} both, with another "
                    f"{', '.join(differing)}: give one of them a resource_key of its own"
                )
                raise ConfigError("resource_key", reason)

    def _resources(self) -> Mapping[str, MynthResource]:
        if self.api_key_env is None:
            return {}
        resource = shared_resource(
            api_key_env=self.api_key_env,
            root=self.root,
            ledger_url=self.ledger_url,
            journal_dir=self.journal_dir,
            upload_lifetime_s=self.upload_lifetime_s,
            base_url=self.base_url,
            api_revision=self.api_revision,
            concurrency=self.concurrency,
            image_hosts=tuple(self.image_hosts),
            any_public_host=self.any_public_host,
        )
        return {self.resource_key: resource}


def _prices(by_model: Mapping[str, Amount]) -> dict[str, Decimal]:
    return {model: usd_from_setting("prices_usd", price) for model, price in by_model.items()}
