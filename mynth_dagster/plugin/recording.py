"""
Telling Dagster which partitions of a run are done.

When all are done: metadata per partition, and one result per asset. When some are left: events
for the finished ones and for the checks, then a failure. Never both, since that records
partitions and checks twice.

What a run has made although it was not selected is recorded by events as well: tables that are
written together are never told of apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from mynth_dagster.models.batch import Slice
from mynth_dagster.plugin.metadata import Metadata
from mynth_dagster.plugin.partitions import BatchPartitions

Done = Mapping[Slice, Metadata]


def record_all(
    context: dg.AssetExecutionContext,
    partitions: BatchPartitions,
    done: Mapping[dg.AssetKey, Done],
    *,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Results of a run that finished every partition it was for."""
    selected, wanted = context.selected_asset_keys, context.selected_asset_check_keys
    asked = [check for check in checks if _key_of(check) in wanted]
    besides = {asset: by_slice for asset, by_slice in done.items() if asset not in selected}
    not_asked = [check for check in checks if _key_of(check) not in wanted]
    record_some(context, partitions, besides, checks=not_asked)
    for asset, by_slice in done.items():
        of_asset = [check for check in asked if check.asset_key == asset]
        if asset in besides:
            yield from of_asset
            continue
        for slice_, metadata in by_slice.items():
            key = partitions.key_of(slice_)
            if key is not None:
                context.add_asset_metadata(metadata, asset_key=asset, partition_key=key)
        whole = _of_whole(next(iter(by_slice.values()))) if partitions.definition is None else None
        yield dg.MaterializeResult(asset_key=asset, metadata=whole, check_results=of_asset)


def record_some(
    context: dg.AssetExecutionContext,
    partitions: BatchPartitions,
    done: Mapping[dg.AssetKey, Done],
    *,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> None:
    """Events for finished partitions and for checks, where no result is to tell them."""
    for asset, by_slice in done.items():
        for slice_, metadata in by_slice.items():
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=asset,
                    partition=partitions.key_of(slice_),
                    metadata=metadata if partitions.definition else _of_whole(metadata),
                    tags=partitions.tags_of(slice_),
                )
            )

    for check in checks:
        key = _key_of(check)
        evaluation = dg.AssetCheckEvaluation(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=check.passed,
            metadata=check.metadata,
            severity=check.severity,
            blocking=context.assets_def.get_spec_for_check_key(key).blocking,
        )
        context.log_event(evaluation)


def _key_of(check: dg.AssetCheckResult) -> dg.AssetCheckKey:
    assert check.asset_key is not None
    assert check.check_name is not None
    return dg.AssetCheckKey(check.asset_key, check.check_name)


def _of_whole(metadata: Metadata) -> Metadata:
    """An unpartitioned asset's rows are all of its rows."""
    names = {"dagster/partition_row_count": "dagster/row_count"}
    return {names.get(name, name): value for name, value in metadata.items()}
