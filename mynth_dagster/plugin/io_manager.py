"""
`MynthTables`: tables between assets, those of a batch and those of one's own, as Parquet.

The batch's own assets write their tables themselves, streamed; of those this IO manager only reads.
The annotation of the input chooses the form.
"""

import io
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from pydantic import Field

from mynth_dagster.errors import ConfigError, TableError
from mynth_dagster.models.batch import FAN_OUT_FOLDER, Batch
from mynth_dagster.plugin.partitions import Layout, follow_range
from mynth_dagster.tables.parquet import as_table_errors, common_type, iter_row_groups
from mynth_dagster.tables.source import FileSchema, as_arrow, common_schema
from mynth_dagster.tables.store import TableStore, write_atomically

COLUMNS = "columns"
ALLOW_MISSING = "allow_missing_partitions"


class MynthTables(dg.ConfigurableIOManager):
    """
    Reads the tables of a batch for a downstream asset, and keeps those of assets of one's own.

    As the input manager: `dg.AssetIn(["shots", "images"], input_manager_key="tables")`. As the
    `io_manager_key` of an asset that makes prompts or a report: what it returns is a Parquet file
    under the root for each partition, and is read again here or as the prompts of a batch.
    A table is taken and given as a pandas `DataFrame`, a pyarrow `Table` or `Dataset`, or a polars
    `DataFrame` or `LazyFrame`; the annotation of an input says which.
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
        """
        Keep what an asset returned: a file for the run's partition, replaced as a whole.

        Raises:
            ConfigError: The asset is of several partitions in this run, and returned one value.
            TableError: It is no table, or the root cannot be written.
        """
        key = context.asset_key
        partitions = context.asset_partition_keys if context.has_asset_partitions else [""]
        if len(partitions) > 1:
            reason = f"{key.to_user_string()} returned one table for {len(partitions)} partitions"
            raise ConfigError("io_manager", f"{reason}: give it BackfillPolicy.multi_run()")
        rows = as_arrow(obj, key.to_user_string())
        table = rows.read_all() if isinstance(rows, pa.RecordBatchReader) else rows
        fs, path = _own_file(self.root, key, partitions[0])
        content = io.BytesIO()
        pq.write_table(table, content)
        with as_table_errors(path, "cannot be written"):
            write_atomically(fs, path, content.getvalue())
        context.add_output_metadata(
            {
                "dagster/row_count": table.num_rows,
                "dagster/uri": dg.MetadataValue.text(fs.unstrip_protocol(path)),
                "dagster/column_schema": dg.TableSchema(
                    [dg.TableColumn(field.name, str(field.type)) for field in table.schema]
                ),
            }
        )

    def load_input(self, context: dg.InputContext) -> Any:
        """
        Load the upstream table over all partitions of the run, in the order of their keys.

        Raises:
            ConfigError: The annotation asks for a form that there is not, or a column.
            TableError: A partition has no table, and missing ones are not allowed; or a column
                is of different kinds, with the days in which it is.
        """
        form = context.dagster_type.typing_type
        _require_form(form)
        fs, files = self._files(context)
        schema = common_schema(fs, files, may_lack=True)
        if form is pads.Dataset:
            return _dataset(fs, files, schema)
        wanted = _wanted_columns(context)
        chosen = schema if wanted is None else pa.schema([_field(schema, n) for n in wanted])
        arrow = _table(fs, files, chosen)
        if _is_polars(form):
            import polars as pl  # noqa: PLC0415 - of the user's own, who asks for it by name

            frame = pl.from_arrow(arrow)
            assert isinstance(frame, pl.DataFrame)  # a table makes no Series
            return frame.lazy() if form is pl.LazyFrame else frame
        return arrow if form is pa.Table else arrow.to_pandas()

    def _files(self, context: dg.InputContext) -> tuple[Any, list[FileSchema]]:
        """Return the files of the partitions that are read, and their file system."""
        keys = sorted(context.asset_partition_keys) if context.has_asset_partitions else [""]
        upstream = context.upstream_output
        layout = Layout.from_metadata((upstream.definition_metadata if upstream else None) or {})
        if layout is None:
            fs = url_to_fs(self.root)[0]
            paths = {key: _own_file(self.root, context.asset_key, key)[1] for key in keys}
            folders: dict[str, dict[str, str]] = {key: {} for key in keys}
        else:
            store = TableStore(self.root, layout.batch)
            batch = Batch(layout.batch, window_dimension=layout.window_dimension)
            slices = {key: layout.slice_of(batch, key) for key in keys}
            fs = store.fs
            paths = {key: store.path(layout.table, slice_) for key, slice_ in slices.items()}
            # The keys as columns: nothing else distinguishes the days.
            folders = {
                key: {slice_.window_dimension: slice_.window, FAN_OUT_FOLDER: slice_.fan_out}
                for key, slice_ in slices.items()
            }
        there = [key for key in keys if fs.isfile(paths[key])]
        missing = [key or "all" for key in keys if key not in there]
        allowed = (context.definition_metadata or {}).get(ALLOW_MISSING, False)
        if missing and not (allowed and there):
            name = context.asset_key.to_user_string()
            reason = f"no table yet for {', '.join(missing[:5])} in {paths[keys[0]]}"
            raise TableError(name, f"{reason}: materialize it with this root")
        return fs, [_with_keys(FileSchema.read(fs, paths[key]), folders[key]) for key in there]


def _own_file(root: str, key: dg.AssetKey, partition: str) -> tuple[Any, str]:
    """Return where the table of an asset of one's own is, `<root>/<key>/<partition>.parquet`."""
    fs, folder = url_to_fs(root)
    name = quote(partition, safe=" ,@+-_") or "part-0"
    return fs, posixpath.join(folder, *key.path, f"{name}.parquet")


def _with_keys(file: FileSchema, keys: Mapping[str, str]) -> FileSchema:
    named = {name: key for name, key in keys.items() if key and name not in file.schema.names}
    return replace(file, keys=named)


def _table(fs: Any, files: Sequence[FileSchema], schema: pa.Schema) -> pa.Table:
    batches = [
        file.conformed(batch, schema, 0)
        for file in files
        for batch in iter_row_groups(fs, file.path, columns=_columns_in(file, schema))
    ]
    return pa.Table.from_batches(batches, schema)


def _columns_in(file: FileSchema, schema: pa.Schema) -> list[str]:
    """Return the columns to read of a file; if it has none of them, one other for its rows."""
    return [name for name in schema.names if name in file.schema.names] or file.schema.names[:1]


def _dataset(fs: Any, files: Sequence[FileSchema], schema: pa.Schema) -> pads.Dataset:
    """Make a dataset that is scanned in place, if Arrow can unify the types by itself."""
    if any(_needs_values(file, schema) for file in files):
        return pads.dataset(_table(fs, files, schema))
    parts = [
        pads.FileSystemDataset.from_paths(
            [file.path],
            schema=schema,
            format=pads.ParquetFileFormat(),
            filesystem=pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fs)),
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


def _wanted_columns(context: dg.InputContext) -> Sequence[str] | None:
    metadata: Mapping[str, Any] = context.definition_metadata or {}
    wanted = metadata.get(COLUMNS)
    return None if wanted is None else list(wanted)


def _require_form(form: Any) -> None:
    if form not in (pd.DataFrame, pa.Table, pads.Dataset, Any, None) and not _is_polars(form):
        known = "a DataFrame of pandas or polars, a LazyFrame, a pa.Table or a Dataset"
        raise ConfigError("io_manager", f"{form} is none of these: {known}")


def _is_polars(form: Any) -> bool:
    module, name = getattr(form, "__module__", ""), getattr(form, "__name__", "")
    return module.partition(".")[0] == "polars" and name in ("DataFrame", "LazyFrame")
