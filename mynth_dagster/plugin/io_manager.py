"""
`MynthTables`: the tables of a batch as inputs of downstream assets.

The batch's own assets write their tables themselves, streamed; this IO manager only reads.
The annotation of the input chooses the form: `pd.DataFrame`, `pa.Table` or a pyarrow `Dataset`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs
from pydantic import Field

from mynth_dagster.errors import ConfigError, TableError
from mynth_dagster.models.batch import FAN_OUT_FOLDER, Batch, Slice
from mynth_dagster.plugin.partitions import Layout, follow_range
from mynth_dagster.tables.parquet import common_type, iter_row_groups
from mynth_dagster.tables.source import FileSchema, common_schema
from mynth_dagster.tables.store import TableStore

COLUMNS = "columns"
ALLOW_MISSING = "allow_missing_partitions"


class MynthTables(dg.ConfigurableIOManager):
    """
    Reads `prompts`, `tasks`, `images` or `failures` for a downstream asset.

    Use it as the input manager: `dg.AssetIn(["shots", "images"], input_manager_key="tables")`.
    Partitions are one table: types that hold the same values become one, a column that a partition
    lacks is null there, and the keys of windows and fan-out are columns.
    Metadata of the input: `columns` (a list) reads only these; `allow_missing_partitions` skips
    partitions that have no table yet.
    """

    root: str = Field(description="Folder or URL of the tables, as in the MynthResource.")

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Have a run read the partitions of its range, whatever other partition its tags name."""
        follow_range(context.run)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Refuse: a batch's tables are written by its own assets only."""
        raise ConfigError(
            "io_manager", "MynthTables only reads: give this asset another io_manager_key"
        )

    def load_input(self, context: dg.InputContext) -> Any:
        """
        Load the upstream table over all partitions of the run, in the order of their keys.

        Raises:
            ConfigError: The upstream asset is not a table of a batch.
            TableError: A partition has no table, and missing ones are not allowed; or a column
                is of different kinds, with the days in which it is.
        """
        form = context.dagster_type.typing_type
        _require_form(form)
        store, table, slices = self._partitions(context)
        files = [_file_of(store, table, slice_) for slice_ in slices]
        schema = common_schema(store.fs, files, may_lack=True)
        if form is pads.Dataset:
            return _dataset(store, files, schema)
        wanted = _wanted_columns(context)
        chosen = schema if wanted is None else pa.schema([_field(schema, n) for n in wanted])
        arrow = _table(store, files, chosen)
        return arrow if form is pa.Table else arrow.to_pandas()

    def _partitions(self, context: dg.InputContext) -> tuple[TableStore, str, list[Slice]]:
        """Return which partitions of which table there are to read."""
        layout = _layout(context)
        store = TableStore(self.root, layout.batch)
        batch = Batch(layout.batch, window_dimension=layout.window_dimension)
        keys = sorted(context.asset_partition_keys) if context.has_asset_partitions else [""]
        slices = [layout.slice_of(batch, key) for key in keys]
        present = [slice_ for slice_ in slices if store.exists(layout.table, slice_)]
        missing = [slice_.key for slice_ in slices if slice_ not in present]
        allowed = (context.definition_metadata or {}).get(ALLOW_MISSING, False)
        if missing and not (allowed and present):
            uri = store.uri(layout.table, slices[0])
            raise TableError(uri, f"no table yet for {', '.join(missing[:5])}: materialize it")
        return store, layout.table, present


def _file_of(store: TableStore, table: str, slice_: Slice) -> FileSchema:
    """Return a partition's file with its keys as columns: nothing else distinguishes the days."""
    keys = {slice_.window_dimension: slice_.window, FAN_OUT_FOLDER: slice_.fan_out}
    file = FileSchema.read(store.fs, store.path(table, slice_))
    named = {name: key for name, key in keys.items() if key and name not in file.schema.names}
    return replace(file, keys=named)


def _table(store: TableStore, files: Sequence[FileSchema], schema: pa.Schema) -> pa.Table:
    batches = [
        file.conformed(batch, schema, 0)
        for file in files
        for batch in iter_row_groups(store.fs, file.path, columns=_columns_in(file, schema))
    ]
    return pa.Table.from_batches(batches, schema)


def _columns_in(file: FileSchema, schema: pa.Schema) -> list[str]:
    """Return the columns to read of a file; if it has none of them, one other for its rows."""
    return [name for name in schema.names if name in file.schema.names] or file.schema.names[:1]


def _dataset(store: TableStore, files: Sequence[FileSchema], schema: pa.Schema) -> pads.Dataset:
    """Make a dataset that is scanned in place, if Arrow can unify the types by itself."""
    if any(_needs_values(file, schema) for file in files):
        return pads.dataset(_table(store, files, schema))
    parts = [
        pads.FileSystemDataset.from_paths(
            [file.path],
            schema=schema,
            format=pads.ParquetFileFormat(),
            filesystem=pa.fs.PyFileSystem(pa.fs.FSSpecHandler(store.fs)),
            partitions=[_as_expression(file.keys)],
        )
        for file in files
    ]
    return pads.dataset(parts)


def _needs_values(file: FileSchema, schema: pa.Schema) -> bool:
    """Whether a column has another type here, and fits only because it has no values."""
    kinds = ((column.type, schema.field(column.name).type) for column in file.schema)
    return any(common_type(own, wanted) != wanted for own, wanted in kinds)


def _as_expression(keys: Mapping[str, str | None]) -> pads.Expression:
    expression = pads.scalar(True)  # noqa: FBT003 - the expression that is always true
    for name, key in keys.items():
        expression = expression & (pads.field(name) == key)
    return expression


def _field(schema: pa.Schema, name: str) -> pa.Field:
    if name not in schema.names:
        found = ", ".join(schema.names)
        raise ConfigError("io_manager", f"there is no column {name!r}; the table has {found}")
    return schema.field(name)


def _layout(context: dg.InputContext) -> Layout:
    upstream = context.upstream_output
    stored = (upstream.definition_metadata if upstream else None) or {}
    layout = Layout.from_metadata(stored)
    if layout is None:
        raise ConfigError("io_manager", f"{context.asset_key.to_user_string()} is no Mynth table")
    return layout


def _wanted_columns(context: dg.InputContext) -> Sequence[str] | None:
    metadata: Mapping[str, Any] = context.definition_metadata or {}
    wanted = metadata.get(COLUMNS)
    return None if wanted is None else list(wanted)


def _require_form(form: Any) -> None:
    if form not in (pd.DataFrame, pa.Table, pads.Dataset, Any, None):
        raise ConfigError("io_manager", f"{form} is none of DataFrame, pa.Table, Dataset")
