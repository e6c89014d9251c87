"""
The assets of a batch: one operation for each step, with a body around its work.

Annotations are real objects in this module (no postponed evaluation): Dagster reads them.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.request import KINDS_BY_TABLE
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.plugin.checks import check_specs
from mynth_dagster.plugin.execution import execute
from mynth_dagster.plugin.failing import errors_as_failures
from mynth_dagster.plugin.resource import MynthResource
from mynth_dagster.plugin.run_options import RUN_OPTIONS_CONFIG
from mynth_dagster.plugin.settings import PHASES
from mynth_dagster.plugin.translator import MynthTranslator, asset_spec
from mynth_dagster.plugin.upstream_input import INPUT, with_upstream

Body = Callable[..., Any]
"""
What runs in each step: `body(context, mynth)`, a generator around `mynth.run(context)`.

Further parameters are resources by their names.
"""

_PAID = frozenset({"submit", *KINDS_BY_TABLE})


def plain_body(context: dg.AssetExecutionContext, mynth: MynthResource) -> Iterator[Any]:
    """The work and nothing around it."""
    yield from mynth.run(context)


def build_assets(
    assets: BatchAssets, translator: MynthTranslator, body: Body
) -> list[dg.AssetsDefinition]:
    """
    Build the assets: prepare, submit, collect, download if files are kept, and follow-ups.

    Raises:
        ConfigError: The body has fewer than two parameters.
    """
    phases = [phase for phase, tables in PHASES.items() if set(tables) <= set(assets.names)]
    resources = _resources_of(body)
    return [_build(assets, phase, translator, body, resources) for phase in phases]


def _resources_of(body: Body) -> list[str]:
    """Return the names of a body's further parameters."""
    names = list(inspect.signature(body).parameters)
    if len(names) < 2:
        reason = f"{getattr(body, '__name__', body)} needs two parameters, (context, mynth)"
        raise ConfigError("mynth_assets", reason)
    return names[2:]


def _build(
    assets: BatchAssets,
    phase: str,
    translator: MynthTranslator,
    body: Body,
    resources: list[str],
) -> dg.AssetsDefinition:
    specs = [asset_spec(assets, table, translator) for table in PHASES[phase]]
    upstream = assets.upstream if phase == "prepare" else None
    if upstream is not None and upstream.key is not None:
        dep = dg.AssetDep(upstream.key, partition_mapping=upstream.partition_mapping)
        specs = [spec.merge_attributes(deps=[dep]) for spec in specs]
        upstream = upstream._replace(partition_mapping=None)  # Dagster wants it in one place
    keys = {spec.key for spec in specs}
    rated = assets.batch.request.rating is not None
    checks = check_specs(assets.key, assets.checks, rated=rated)
    execution = assets.execution
    decorate = dg.multi_asset(
        name=f"{assets.batch.name}__{phase}",
        specs=specs,
        ins={} if upstream is None else {INPUT: upstream},
        check_specs=[spec for spec in checks if spec.asset_key in keys],
        required_resource_keys={execution.resource_key, *resources},
        backfill_policy=execution.backfill_policy,
        config_schema=RUN_OPTIONS_CONFIG if phase in _PAID else None,
        pool=execution.pool_of("submit" if phase in _PAID else phase),
        op_tags=execution.op_tags,
        can_subset=len(specs) > 1,
    )

    def run(context: dg.AssetExecutionContext, assets: BatchAssets) -> Iterator[Any]:
        resource: MynthResource = getattr(context.resources, execution.resource_key)
        mynth = resource.for_step(
            lambda context, mynth: execute(context, phase, mynth, assets),
        )
        others = {name: getattr(context.resources, name) for name in resources}
        with errors_as_failures():
            yield from body(context, mynth, **others) or ()

    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from run(context, assets)

    def step_with_upstream(context: dg.AssetExecutionContext, upstream) -> Iterator[Any]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        with errors_as_failures():
            fed = with_upstream(assets, upstream, context)
        yield from run(context, fed)

    return decorate(step if upstream is None else step_with_upstream)
