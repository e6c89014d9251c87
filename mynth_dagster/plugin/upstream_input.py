"""
Prompts from another asset: which of its partitions a window gets, as one table.

Dagster's partition mapping decides which they are, never the likeness of two keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import dagster as dg
import pyarrow as pa

from mynth_dagster.errors import ConfigError, TableError, name_some
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.tables.source import PromptSource, as_arrow, source_from_arrow

INPUT = "upstream"
"""The name of the operation's input."""

_WINDOWS_COMPARED = 60
"""The number of windows that are compared with the upstream asset's when a batch is defined."""


def upstream_from(asset: Any) -> dg.AssetIn | None:
    """
    Return the asset that the prompts come from; None if they lie in files.

    Raises:
        ConfigError: Something is set that an input of a batch cannot have.
    """
    if asset is None:
        return None
    if isinstance(asset, str):
        asset = dg.AssetKey.from_user_string(asset)
    found = dg.AssetIn(key=asset) if isinstance(asset, dg.AssetKey) else asset
    if not isinstance(found, dg.AssetIn):
        raise ConfigError("prompts.asset", f"{asset!r} is neither a key nor an AssetIn")
    if not isinstance(found.key, dg.AssetKey):
        raise ConfigError("prompts", "an AssetIn needs the key of the asset")
    if found.metadata or found.key_prefix or _has_type(found):
        reason = "an AssetIn may name key, input_manager_key and partition_mapping, nothing else"
        raise ConfigError("prompts", reason)
    return found


def _has_type(found: dg.AssetIn) -> bool:
    return found.dagster_type != dg.AssetIn(key="any").dagster_type


def with_upstream(
    assets: BatchAssets, loaded: Any, context: dg.AssetExecutionContext
) -> BatchAssets:
    """Return the batch with windows that are read from what an IO manager loaded for the run."""
    name = _name_of(assets)
    if isinstance(loaded, pa.RecordBatchReader):
        loaded = loaded.read_all()  # a reader gives its rows once, and each window wants them

    @lru_cache(maxsize=1)
    def in_run() -> Sequence[str] | None:
        return _keys_in_run(context)

    def open_window(window: str) -> PromptSource:
        keys = in_run()
        if keys is None:
            tables = [as_arrow(loaded, name)]
        else:
            wanted = _keys_of_window(context, assets, window)
            values = _values_for(loaded, wanted, keys, f"{name} {window}".strip())
            tables = [as_arrow(value, name) for value in values]
        id_column = assets.batch.prompts.columns.get("prompt_id") or "prompt_id"
        return source_from_arrow(_as_one(tables, name, id_column), f"{name} {window}".strip())

    return replace(assets, open_window=open_window)


def _name_of(assets: BatchAssets) -> str:
    assert assets.upstream is not None
    return dg.AssetKey.from_coercible(assets.upstream.key or []).to_user_string()


def _keys_in_run(context: dg.AssetExecutionContext) -> Sequence[str] | None:
    """Return the upstream partitions that were loaded; None if the asset has no partitions."""
    upstream = context.asset_key_for_input(INPUT)
    if context.job_def.asset_layer.get(upstream).partitions_def is None:
        return None
    return list(context.asset_partition_keys_for_input(INPUT))


def _keys_of_window(
    context: dg.AssetExecutionContext, assets: BatchAssets, window: str
) -> Sequence[str]:
    """Return the upstream partitions of a window, all of its fan-out, in their own order."""
    key, upstream = assets.key("prompts"), context.asset_key_for_input(INPUT)
    graph = context.job_def.asset_layer.asset_graph
    theirs = graph.get(upstream).partitions_def
    assert theirs is not None
    ours, store = assets.partitions.definition, context.instance
    keys = [] if ours is None else [slice_.key for slice_ in assets.batch.slices(window)]
    result = graph.get_partition_mapping(
        key, upstream
    ).get_upstream_mapped_partitions_result_for_partitions(
        None if ours is None else ours.subset_with_partition_keys(keys),
        ours,
        theirs,
        dynamic_partitions_store=store,
    )
    wanted = set(result.partitions_subset.get_partition_keys())
    return [
        key for key in theirs.get_partition_keys(dynamic_partitions_store=store) if key in wanted
    ]


def _values_for(
    loaded: Any, wanted: Sequence[str], in_run: Sequence[str], name: str
) -> Sequence[Any]:
    """Return what was loaded of the partitions of one window, in their order."""
    if not wanted:
        raise TableError(name, "the partition mapping gives this window no partition")
    if set(wanted) == set(in_run) and not _is_by_key(loaded, wanted):
        return [loaded]
    if not isinstance(loaded, Mapping):
        reason = (
            f"partitions {name_some(list(in_run))} came as one {type(loaded).__name__}, and the "
            "windows of the run need different ones of them: run one window at a time"
        )
        raise TableError(name, reason)
    missing = [key for key in wanted if key not in loaded]
    if missing:
        reason = (
            f"the window needs {name_some(missing)}, and loaded were {name_some(sorted(loaded))}: "
            "run all partitions of the window together"
        )
        raise TableError(name, reason)
    return [loaded[key] for key in wanted]


def _is_by_key(loaded: Any, wanted: Sequence[str]) -> bool:
    return isinstance(loaded, Mapping) and (len(wanted) > 1 or wanted[0] in loaded)


def _as_one(
    tables: Sequence[pa.Table | pa.RecordBatchReader], name: str, id_column: str
) -> pa.Table | pa.RecordBatchReader:
    """
    Combine them into one table, in order.

    A row that an earlier partition has too, with the same id and the same values, is one row.
    """
    if len(tables) == 1:
        return tables[0]
    whole = [t.read_all() if isinstance(t, pa.RecordBatchReader) else t for t in tables]
    try:
        joined = pa.concat_tables(whole, promote_options="permissive")
    except pa.ArrowException as error:
        raise TableError(name, f"its partitions do not make one table: {error}") from error
    if id_column not in joined.column_names:
        return joined
    return joined.take(list(_first_of_equal(joined, [t.num_rows for t in whole], id_column)))


def _first_of_equal(joined: pa.Table, sizes: Sequence[int], id_column: str) -> Iterator[int]:
    """Yield the rows without those that repeat one of an earlier partition."""
    parts = [part for part, size in enumerate(sizes) for _ in range(size)]
    first: dict[Any, int] = {}
    for row, prompt_id in enumerate(joined.column(id_column).to_pylist()):
        before = first.setdefault(prompt_id, row)
        is_elsewhere = prompt_id is not None and parts[before] != parts[row]
        if not (is_elsewhere and _row(joined, before) == _row(joined, row)):
            yield row


def _row(table: pa.Table, index: int) -> str:
    return repr(table.slice(index, 1).to_pylist())


class FittingAssets(dg.AssetSelection):
    """
    The assets of a job; when the location is loaded, it refuses prompts whose windows do not fit.

    Only then are the partitions of the upstream asset known.
    """

    def __init__(self, assets: BatchAssets, *tables: str) -> None:
        self._assets = assets
        self._selected = dg.AssetSelection.assets(*(assets.key(table) for table in tables))

    def resolve_inner(self, asset_graph: Any, allow_missing: bool) -> Any:  # noqa: FBT001
        """The keys."""
        upstream = self._assets.upstream
        if upstream is not None and asset_graph.has(upstream.key):
            reason = _misfit(self._assets, asset_graph, _name_of(self._assets))
            if reason:
                raise dg.DagsterInvalidDefinitionError(f"{self._assets.batch.name}: {reason}")
        return self._selected.resolve_inner(asset_graph, allow_missing=allow_missing)

    def to_selection_str(self) -> str:
        """As of the keys."""
        return self._selected.to_selection_str()


def _misfit(assets: BatchAssets, graph: Any, name: str) -> str:
    """Return why windows cannot be fed from an asset; empty if they can."""
    assert assets.upstream is not None
    upstream = assets.upstream.key
    theirs, ours = graph.get(upstream).partitions_def, assets.partitions.definition
    if theirs is None:
        return ""
    mapping = graph.get_partition_mapping(assets.key("prompts"), upstream)
    if isinstance(mapping, dg.TimeWindowPartitionMapping) and assets.partitions.is_product:
        return (
            f"a TimeWindowPartitionMapping to {name} joins windows alone, and this batch has "
            f"each window in a partition per {assets.batch.fan_out_dimension}: leave one away"
        )
    try:
        mapping.validate_partition_mapping(theirs, ours)
    except (dg.DagsterInvalidDefinitionError, dg.DagsterInvariantViolationError) as error:
        return f"the partitions of {name} do not fit those of the batch: {error}"
    if isinstance(mapping, dg.IdentityPartitionMapping) and isinstance(
        theirs, dg.MultiPartitionsDefinition
    ):
        return (
            f"{name} is partitioned by {' and '.join(theirs.partition_dimension_names)}: set in an "
            "AssetIn, with a partition_mapping, which of them a window gets"
        )
    follows_time = isinstance(
        mapping, dg.TimeWindowPartitionMapping | dg.MultiToSingleDimensionPartitionMapping
    )
    windows, their_windows = assets.partitions.windows, _time_windows_of(theirs)
    if follows_time and isinstance(windows, dg.TimeWindowPartitionsDefinition) and their_windows:
        key = _split_window(windows, their_windows)
        if key:
            return (
                f"a partition of {name} would belong to several windows, and its prompts be paid "
                f"for in each: the window {key} begins within one. Use windows that begin and end "
                "with its partitions"
            )
    return ""


def _time_windows_of(
    theirs: dg.PartitionsDefinition,
) -> dg.TimeWindowPartitionsDefinition | None:
    if isinstance(theirs, dg.MultiPartitionsDefinition):
        found = [_time_windows_of(part.partitions_def) for part in theirs.partitions_defs]
        return next(filter(None, found), None)
    return theirs if isinstance(theirs, dg.TimeWindowPartitionsDefinition) else None


def _split_window(
    ours: dg.TimeWindowPartitionsDefinition, theirs: dg.TimeWindowPartitionsDefinition
) -> str:
    """Return the key of a window of ours that begins within one of theirs, or an empty one."""
    start = ours.start
    for _ in range(_WINDOWS_COMPARED):
        window = ours.get_next_partition_window(start, respect_bounds=False)
        if window is None:
            break
        moment = window.start.timestamp()
        of_theirs = theirs.time_window_for_partition_key(
            theirs.get_partition_key_for_timestamp(moment)
        )
        if of_theirs.start.timestamp() != moment:
            return ours.get_partition_key_for_timestamp(moment)
        start = window.end
    return ""
