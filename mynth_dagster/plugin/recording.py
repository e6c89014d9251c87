"""
Telling Dagster which partitions of a run are done.

When all are done: metadata per partition, and one result per asset. When some are left: events
for the finished ones and for the checks, then a failure. Never both, since that records
partitions and checks twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from mynth_dagster.models.partition import Slice
from mynth_dagster.plugin.metadata import Metadata
from mynth_dagster.plugin.partitions import BatchPartitions

Done = Mapping[Slice, Metadata]


def record_all(
    context: dg.AssetExecutionContext,
    partitions: BatchPartitions,
    done: Mapping[dg.AssetKey, Done],
    *,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    """Results of a run that finished every partition it was for."""
    for asset, by_slice in done.items():
        for slice_, metadata in by_slice.items():
            key = partitions.key_of(slice_)
            if key is not None:
                context.add_asset_metadata(metadata, asset_key=asset, partition_key=key)
        of_asset = [check for check in checks if check.asset_key == asset]
        whole = _of_whole(next(iter(by_slice.values()))) if partitions.definition is None else None
        yield dg.MaterializeResult(asset_key=asset, metadata=whole, check_results=of_asset)


def record_some(
    context: dg.AssetExecutionContext,
    partitions: BatchPartitions,
    done: Mapping[dg.AssetKey, Done],
    *,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> None:
    """Events for the finished partitions of a run that is about to fail, and for its checks."""
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

    is_blocking = {spec.key: spec.blocking for spec in context.assets_def.check_specs}
    for check in checks:
        assert check.asset_key is not None
        assert check.check_name is not None
        evaluation = dg.AssetCheckEvaluation(
            asset_key=check.asset_key,
            check_name=check.check_name,
            passed=check.passed,
            metadata=check.metadata,
            severity=check.severity,
            blocking=is_blocking[dg.AssetCheckKey(check.asset_key, check.check_name)],
        )
        context.log_event(evaluation)


def _of_whole(metadata: Metadata) -> Metadata:
    """An unpartitioned asset's rows are all of its rows."""
    names = {"dagster/partition_row_count": "dagster/row_count"}
    return {names.get(name, name): value for name, value in metadata.items()}
