"""
The assets of a batch: specs from one place, bodies from `execution`.

Annotations are real objects in this module (no postponed evaluation): Dagster reads them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.request import KINDS_BY_TABLE
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.checks import check_specs
from mynth_dagster.plugin.execution import execute
from mynth_dagster.plugin.failing import errors_as_failures
from mynth_dagster.plugin.metadata import defined_columns
from mynth_dagster.plugin.resource import MynthResource
from mynth_dagster.plugin.run_options import RUN_OPTIONS_CONFIG
from mynth_dagster.plugin.upstream_input import INPUT, with_upstream

# Automation of assets downstream of a batch.


def eager_any_date() -> dg.AutomationCondition:  # type: ignore[type-arg]
    """
    Dagster's `eager()`, for windows of any date.

    `eager()` considers the latest window only. With this, an asset by day over all shards of a
    batch is requested once the last shard of its day is materialized, also when an old day is
    backfilled. Every shard is materialized, with or without failures, so no day waits for ever.

    Dagster's sensor `default_automation_condition_sensor` does this; it is off until you switch it
    on.
    """
    latest_only = dg.AutomationCondition.in_latest_time_window()
    return dg.AutomationCondition.eager().without(latest_only).with_label("eager_any_date")


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
PHASES = {
    "prepare": ("prompts",),
    "submit": ("tasks",),
    "collect": ("images", "failures"),
    "download": (FILES,),
    **{table: (table,) for table in KINDS_BY_TABLE},
}
_PAID = frozenset({"submit", *KINDS_BY_TABLE})


def get_asset_spec(assets: BatchAssets, table: str) -> dg.AssetSpec:
    """Make the `AssetSpec` of a batch's table; the only place that does."""
    metadata = _of_table(assets, table) if table != FILES else {}
    asked = assets.follow_up(table)
    if assets.origin is not None:
        metadata["dagster/code_references"] = assets.origin
    return dg.AssetSpec(
        assets.key(table),
        deps=[assets.key(upstream) for upstream in _UPSTREAM[table]],
        description=_DESCRIPTIONS[table],
        group_name=assets.batch.name,
        kinds=_KINDS[table],
        partitions_def=assets.partitions.definition,
        freshness_policy=assets.freshness if table == "images" else None,
        automation_condition=eager_any_date() if asked and asked.automatic else None,
        metadata=metadata,
    )


def _of_table(assets: BatchAssets, table: str) -> dict[str, Any]:
    columns = defined_columns(table, below_pictures=assets.has_pictures(table))
    return {**assets.partitions.layout(table).to_metadata(), **columns}


@dataclass(frozen=True)
class Overrides:
    """
    The functions that a subclass of the component may replace.

    Args:
        get_asset_spec: From a batch and a table's name to its spec. A key that is moved is
            followed everywhere; partitions must stay.
        execute: The body of `prepare`, `submit`, `collect`, `download`, and of each follow-up,
            by the name of its table.
    """

    get_asset_spec: Callable[[BatchAssets, str], dg.AssetSpec] = get_asset_spec
    execute: Callable[[Any, str, MynthResource, BatchAssets], Iterator[Any]] = execute


DEFAULT_OVERRIDES = Overrides()


def with_keys(assets: BatchAssets, overrides: Overrides) -> BatchAssets:
    """
    Return the batch with its assets under the keys that the overrides give.

    Raises:
        ConfigError: Two tables would share a key, or a table's partitions would change.
    """
    for table in assets.names:
        spec = overrides.get_asset_spec(assets, table)
        if spec.key in assets.keys.values():
            message = f"{table} would have the key {spec.key.to_user_string()} of another table"
            raise ConfigError("translation", message)
        if spec.partitions_def != assets.partitions.definition:
            raise ConfigError("translation", f"the partitions of {table} must stay")
        assets = replace(assets, keys={**assets.keys, table: spec.key})
    return assets


def build_assets(
    assets: BatchAssets, resource_key: str, overrides: Overrides
) -> list[dg.AssetsDefinition]:
    """Build the assets of a batch: prepare, submit, collect, and download if files are kept."""
    phases = [phase for phase, tables in PHASES.items() if set(tables) <= set(assets.names)]
    return [_build(assets, phase, resource_key, overrides) for phase in phases]


def _check_specs(assets: BatchAssets) -> list[dg.AssetCheckSpec]:
    rated = assets.batch.defaults.rating is not None
    return check_specs(assets.key, assets.checks, rated=rated)


def _build(
    assets: BatchAssets, phase: str, resource_key: str, overrides: Overrides
) -> dg.AssetsDefinition:
    specs = [overrides.get_asset_spec(assets, table) for table in PHASES[phase]]
    upstream = assets.upstream if phase == "prepare" else None
    if upstream is not None and upstream.key is not None:
        dep = dg.AssetDep(upstream.key, partition_mapping=upstream.partition_mapping)
        specs = [spec.merge_attributes(deps=[dep]) for spec in specs]
        upstream = upstream._replace(partition_mapping=None)  # Dagster wants it in one place
    keys = {spec.key for spec in specs}
    decorate = dg.multi_asset(
        name=f"{assets.batch.name}__{phase}",
        specs=specs,
        ins={} if upstream is None else {INPUT: upstream},
        check_specs=[spec for spec in _check_specs(assets) if spec.asset_key in keys],
        required_resource_keys={resource_key},
        backfill_policy=dg.BackfillPolicy.single_run(),
        config_schema=RUN_OPTIONS_CONFIG if phase in _PAID else None,
        pool=assets.pools.get("submit" if phase in _PAID else phase),
        can_subset=len(specs) > 1,
    )

    def phase_body(context: dg.AssetExecutionContext) -> Iterator[Any]:
        mynth = getattr(context.resources, resource_key)
        with errors_as_failures():
            yield from overrides.execute(context, phase, mynth, assets)

    def phase_body_with_upstream(context: dg.AssetExecutionContext, upstream) -> Iterator[Any]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        mynth = getattr(context.resources, resource_key)
        with errors_as_failures():
            fed = with_upstream(assets, upstream, context)
            yield from overrides.execute(context, phase, mynth, fed)

    return decorate(phase_body if upstream is None else phase_body_with_upstream)
