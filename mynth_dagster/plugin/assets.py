"""
The assets of a batch: specs from one place, bodies from `bodies`.

Annotations are real objects in this module (no postponed evaluation): Dagster reads them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from mynth_dagster.plugin.bodies import (
    BatchAssets,
    collect_results,
    prepare_prompts,
    submit_tasks,
)
from mynth_dagster.plugin.checks import accounted_for_spec

Body = Callable[[dg.AssetExecutionContext, Any, BatchAssets], Iterator[Any]]

_DESCRIPTIONS = {
    "prompts": "Prompt rows, checked and normalised; a row that breaks a rule is kept with its "
    "problem and never paid for.",
    "tasks": "One row per paid request. Materialising again sends only what is new or changed.",
    "images": "One row per image delivered, with its URLs, size and cost.",
    "failures": "One row per prompt or image that has no image: why, what became of the money, "
    "and what to do next.",
}
_KINDS = {
    "prompts": {"parquet", "table"},
    "tasks": {"parquet", "mynth"},
    "images": {"parquet", "mynth"},
    "failures": {"parquet", "table"},
}
_UPSTREAM = {"prompts": [], "tasks": ["prompts"], "images": ["tasks"], "failures": ["tasks"]}


def get_asset_spec(assets: BatchAssets, table: str) -> dg.AssetSpec:
    """The only way from a batch to an `AssetSpec`."""
    return dg.AssetSpec(
        assets.key(table),
        deps=[assets.key(upstream) for upstream in _UPSTREAM[table]],
        description=_DESCRIPTIONS[table],
        group_name=assets.batch.name,
        kinds=_KINDS[table],
        partitions_def=assets.partitions.definition,
    )


def build_assets(assets: BatchAssets, resource_key: str) -> list[dg.AssetsDefinition]:
    """The three operations of a batch: prepare, submit, collect."""
    collected = ["images", "failures"]
    checks = [accounted_for_spec(assets.key("images"))]
    return [
        _build(assets, "prepare", ["prompts"], prepare_prompts, resource_key),
        _build(assets, "submit", ["tasks"], submit_tasks, resource_key),
        _build(assets, "collect", collected, collect_results, resource_key, checks),
    ]


def _build(
    assets: BatchAssets,
    operation: str,
    tables: list[str],
    body: Body,
    resource_key: str,
    checks: list[dg.AssetCheckSpec] | None = None,
) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{assets.batch.name}__{operation}",
        specs=[get_asset_spec(assets, table) for table in tables],
        check_specs=checks,
        required_resource_keys={resource_key},
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=False,
    )
    def operation_body(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from body(context, getattr(context.resources, resource_key), assets)

    return operation_body
