"""
`MynthTables`: the tables of a batch as inputs of downstream assets.

Our own assets write their tables themselves, streamed; this is for reading them.
The annotation of the input chooses the form: `pd.DataFrame`, `pa.Table` or a pyarrow `Dataset`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
from pydantic import Field

from mynth_dagster.errors import ConfigError, TableError
from mynth_dagster.models.batch import Batch
from mynth_dagster.plugin.partitions import Layout
from mynth_dagster.tables.files import TableStore

COLUMNS = "columns"
ALLOW_MISSING = "allow_missing_partitions"


class MynthTables(dg.ConfigurableIOManager):
    """
    Reads `prompts`, `tasks`, `images` or `failures` for a downstream asset.

    Use it as the input manager: `dg.AssetIn(["shots", "images"], input_manager_key="tables")`.
    Metadata of the input: `columns` (a list) reads only these; `allow_missing_partitions` reads
    what is there where a partition has no table yet.
    """

    root: str = Field(description="Folder or URL of the tables, as in the MynthResource.")

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Refuse: a batch's tables are written by its own assets only."""
        raise ConfigError(
            "io_manager", "MynthTables only reads: give this asset another io_manager_key"
        )

    def load_input(self, context: dg.InputContext) -> Any:
        """
        The upstream table over all partitions of the run, partitions in the order of their keys.

        Raises:
            ConfigError: The upstream asset is no table of a batch.
            TableError: A partition has no table, and missing ones are not allowed.
        """
        table = self._dataset(context)
        columns = _wanted_columns(context)
        form = context.dagster_type.typing_type
        if form is pads.Dataset:
            return table
        arrow = table.to_table(columns=columns)
        return arrow if form is pa.Table else _frame(arrow, form)

    def _dataset(self, context: dg.InputContext) -> pads.Dataset:
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
        paths = [store.path(layout.table, slice_) for slice_ in present]
        return pads.dataset(paths, filesystem=store.fs, format="parquet")


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


def _frame(arrow: pa.Table, form: Any) -> pd.DataFrame:
    if form not in (pd.DataFrame, Any, None):
        raise ConfigError("io_manager", f"{form} is none of DataFrame, pa.Table, Dataset")
    frame: pd.DataFrame = arrow.to_pandas()
    return frame
