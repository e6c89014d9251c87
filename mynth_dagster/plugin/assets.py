"""
The assets of a batch: specs from one place, bodies from `bodies`.

Annotations are real objects in this module (no postponed evaluation): Dagster reads them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mynth_dagster.engine.asking import Retry
from mynth_dagster.errors import ConfigError
from mynth_dagster.plugin.bodies import BatchAssets, execute
from mynth_dagster.plugin.checks import accounted_for_spec
from mynth_dagster.plugin.resource import MynthResource

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
        metadata=assets.partitions.layout(table).to_metadata(),
    )


ASKING_CONFIG = {
    "retry": dg.Field(
        dg.Enum("MynthRetry", [dg.EnumValue(choice.value) for choice in Retry]),
        default_value=Retry.NONE.value,
        description="Finished rows to ask for again, each paid for anew: retryable (failed, and "
        "may end otherwise), failed (all failed or refused), partial (also those of which some "
        "images failed).",
    ),
    "force": dg.Field(
        bool, default_value=False, description="Ask for every finished row again, delivered or not."
    ),
    "prompt_ids": dg.Field(
        [str], default_value=[], description="Send only these rows; empty: all that are missing."
    ),
    "confirm": dg.Field(
        bool, default_value=False, description="Yes, pay again for a large part of a partition."
    ),
}
"""The launchpad's fields of `<batch>__submit`."""


@dataclass(frozen=True)
class Overrides:
    """
    What a subclass of the component may change.

    Args:
        get_asset_spec: From a batch and a table's name to its spec; the key must stay.
        execute: The body of `prepare`, `submit` and `collect`.
    """

    get_asset_spec: Callable[[BatchAssets, str], dg.AssetSpec] = get_asset_spec
    execute: Callable[[Any, str, MynthResource, BatchAssets], Iterator[Any]] = execute


DEFAULT_OVERRIDES = Overrides()


def build_assets(
    assets: BatchAssets, resource_key: str, overrides: Overrides
) -> list[dg.AssetsDefinition]:
    """The three operations of a batch: prepare, submit, collect."""
    checks = [accounted_for_spec(assets.key("images"))]
    return [
        _build(assets, "prepare", ["prompts"], resource_key, overrides),
        _build(assets, "submit", ["tasks"], resource_key, overrides),
        _build(assets, "collect", ["images", "failures"], resource_key, overrides, checks),
    ]


def _build(
    assets: BatchAssets,
    phase: str,
    tables: list[str],
    resource_key: str,
    overrides: Overrides,
    checks: list[dg.AssetCheckSpec] | None = None,
) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{assets.batch.name}__{phase}",
        specs=[_spec(assets, table, overrides) for table in tables],
        check_specs=checks,
        required_resource_keys={resource_key},
        backfill_policy=dg.BackfillPolicy.single_run(),
        config_schema=ASKING_CONFIG if phase == "submit" else None,
        can_subset=False,
    )
    def phase_body(context: dg.AssetExecutionContext) -> Iterator[Any]:
        mynth = getattr(context.resources, resource_key)
        yield from overrides.execute(context, phase, mynth, assets)

    return phase_body


def _spec(assets: BatchAssets, table: str, overrides: Overrides) -> dg.AssetSpec:
    spec = overrides.get_asset_spec(assets, table)
    if spec.key != assets.key(table):
        raise ConfigError("get_asset_spec", f"the key of {table} must stay {assets.key(table)}")
    return spec
