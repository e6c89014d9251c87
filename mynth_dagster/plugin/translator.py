"""
`MynthTranslator`: what the assets of a batch are called and belong to.

The only place where the specs of a batch's assets are made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from mynth_dagster.errors import ConfigError
from mynth_dagster.followups.follow_ups import FollowUpWork
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.request import KINDS_BY_TABLE
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.metadata import defined_columns
from mynth_dagster.plugin.settings import freshness_policy
from mynth_dagster.tables.requests import settings_of


@dataclass(frozen=True)
class MynthTableProps:
    """
    What a translator knows of one asset.

    Args:
        batch: The batch with all of its settings.
        table: `prompts`, `tasks`, `images`, `failures`, `files`, `ratings`, `alt_texts` or
            `reviews`.
        default_spec: The asset's spec without a translator: key `<batch>/<table>`, group
            `<batch>`, dependencies, partitions, kinds, columns.
    """

    batch: Batch
    table: str
    default_spec: dg.AssetSpec


class MynthTranslator:
    """
    Translates the tables of a batch to asset specs; subclass it to change them.

    Example:
        class InStudio(MynthTranslator):
            def get_asset_spec(self, props):
                spec = super().get_asset_spec(props)
                return spec.replace_attributes(
                    key=["studio", props.batch.name, props.table], owners=["team:studio"]
                )

        build_image_batch("shots", prompts="prompts.parquet", translator=InStudio())
    """

    def get_asset_spec(self, props: MynthTableProps) -> dg.AssetSpec:
        """
        Return the spec of one table's asset, by default `props.default_spec`.

        A key that is moved is followed by all dependencies, jobs and sensors. Partitions must
        stay.
        """
        return props.default_spec


# Automation of assets downstream of a batch.


def eager_any_date() -> dg.AutomationCondition:  # type: ignore[type-arg]
    """
    Dagster's `eager()`, for windows of any date.

    `eager()` considers the latest window only. With this, an asset by day over all shards of a
    batch is requested once the last shard of its day is materialized, also when an old day is
    backfilled. Every shard is materialized, with or without failures, so no day waits for ever. A
    table that is written again with the same rows wakes nobody: its data version stays.

    Dagster's sensor `default_automation_condition_sensor` does this; it is off until you switch it
    on.
    """
    latest_only = dg.AutomationCondition.in_latest_time_window()
    updated = dg.AutomationCondition.any_deps_updated()
    changed = dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.data_version_changed()
        & ~dg.AutomationCondition.executed_with_root_target()
        | dg.AutomationCondition.will_be_requested()
    ).with_label("any_deps_changed")
    eager = dg.AutomationCondition.eager().without(latest_only)
    return eager.replace(updated, changed).with_label("eager_any_date")


_DESCRIPTIONS = {
    "prompts": "Prompt rows, checked and completed: one for each request. A row that breaks a "
    "rule is kept with its problem and never paid for. Materializing spends nothing and shows "
    "what sending would cost.",
    "tasks": "One row for each paid request. Materializing sends what is new or changed, and "
    "**nothing twice**.",
    "images": "One row for each image delivered, with its URLs, size and cost. The completion "
    "sensor collects them. Written together with `failures`, whichever of the two is selected.",
    "failures": "One row for each prompt or image that has no image: why, what became of the "
    "money, and what to do next.",
    FILES: "The files of the images, each downloaded once and verified; `images` tells where they "
    "are. Materializing again fetches only what is missing, free of charge.",
    "ratings": "The content rating of each image, by a paid task of its own. Materializing asks "
    "about images that were not asked about, and **about none twice**.",
    "alt_texts": "A description of each image for those who do not see it, by a paid task of its "
    "own. Materializing asks only about images that were not asked about.",
    "reviews": "What a panel of models says of each image: a score from 1 to 4, findings, "
    "strengths. By a paid task each; none is asked about twice.",
}
_KINDS = {
    "prompts": {"parquet", "table"},
    "tasks": {"parquet", "mynth", "task"},
    "images": {"parquet", "mynth"},
    "failures": {"parquet", "table"},
    FILES: {"file"},
    **{table: {"parquet", "mynth"} for table in KINDS_BY_TABLE},
}
_UPSTREAM = {
    "prompts": [],
    "tasks": ["prompts"],
    "images": ["tasks"],
    "failures": ["tasks"],
    FILES: ["images"],
    **{table: ["images"] for table in KINDS_BY_TABLE},
}


def asset_spec(assets: BatchAssets, table: str, translator: MynthTranslator) -> dg.AssetSpec:
    """Return the spec of a batch's table as the translator has it."""
    follow_up = assets.follow_up(table)
    execution = assets.execution
    default = dg.AssetSpec(
        assets.key(table),
        deps=[assets.key(upstream) for upstream in _UPSTREAM[table]],
        description=_DESCRIPTIONS[table],
        group_name=assets.batch.name,
        kinds=_KINDS[table],
        owners=list(execution.owners),
        tags={**_storage_kind(table), **execution.tags},
        code_version=_code_version(assets, table),
        partitions_def=assets.partitions.definition,
        skippable=True,  # a body of the user's own may leave a step out
        freshness_policy=freshness_policy(assets.checks.freshness) if table == "images" else None,
        automation_condition=eager_any_date() if follow_up and follow_up.automatic else None,
        metadata=_metadata(assets, table),
    )
    return translator.get_asset_spec(MynthTableProps(assets.batch, table, default))


def _storage_kind(table: str) -> Mapping[str, str]:
    return {} if table == FILES else {"dagster/storage_kind": "parquet"}


def _code_version(assets: BatchAssets, table: str) -> str | None:
    """
    Return what makes other rows of prompts that stay as they are: models, defaults, columns.

    So an edit of the settings shows as unsynced until the table is made again. Results follow from
    `tasks`.
    """
    follow_up = assets.follow_up(table)
    if follow_up is not None:
        return FollowUpWork(assets.batch, follow_up).settings
    return settings_of(assets.batch) if table in ("prompts", "tasks") else None


def _metadata(assets: BatchAssets, table: str) -> Mapping[str, Any]:
    metadata: dict[str, Any] = {}
    if table != FILES:
        metadata["dagster/table_name"] = f"{assets.batch.name}.{table}"
        metadata |= assets.partitions.layout(table).to_metadata()
        metadata |= defined_columns(table, below_pictures=assets.has_pictures(table))
    if assets.origin is not None:
        metadata["dagster/code_references"] = assets.origin
    return metadata


def with_keys(assets: BatchAssets, translator: MynthTranslator) -> BatchAssets:
    """
    Return the batch with its assets under the keys that the translator gives.

    Raises:
        ConfigError: Two tables would share a key, or a table's partitions would change.
    """
    for table in assets.names:
        spec = asset_spec(assets, table, translator)
        if spec.key in assets.keys.values():
            message = f"{table} would have the key {spec.key.to_user_string()} of another table"
            raise ConfigError("translation", message)
        if spec.partitions_def != assets.partitions.definition:
            raise ConfigError("translation", f"the partitions of {table} must stay")
        assets = replace(assets, keys={**assets.keys, table: spec.key})
    return assets
