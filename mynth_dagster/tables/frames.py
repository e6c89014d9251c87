"""What other code hands over as a table, as Arrow: pandas, polars, DuckDB, Hugging Face, Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads

from mynth_dagster.errors import TableError, TableProblem, cut
from mynth_dagster.limits import READ_BATCH_ROWS
from mynth_dagster.tables.arrow_errors import FOREIGN_ERRORS, reason_of

Rows: TypeAlias = "pa.Table | pa.RecordBatchReader"


def as_arrow(value: Any, name: str) -> Rows:
    """
    The rows of a table in memory, or a reader of them.

    Raises:
        TableError: It is no table, or has a column that Arrow cannot hold.
    """
    try:
        return _reader_of(value, name)(value)
    except FOREIGN_ERRORS as exc:
        raise TableError(name, f"it cannot be read as a table: {reason_of(exc)}") from exc


def _reader_of(value: Any, name: str) -> Callable[[Any], Rows]:
    if isinstance(value, pd.DataFrame):
        return lambda frame: _from_pandas(frame, name)
    if isinstance(value, pa.Table | pa.RecordBatchReader):
        return lambda rows: rows
    if isinstance(value, pads.Dataset):
        return lambda dataset: dataset.scanner().to_reader()
    library = type(value).__module__.partition(".")[0]
    if library == "polars" and hasattr(value, "collect"):  # a LazyFrame
        return lambda lazy: pa.RecordBatchReader.from_stream(lazy.collect())
    if library == "datasets" and hasattr(value, "iter"):
        return _from_hugging_face
    if hasattr(value, "__arrow_c_stream__"):
        return _from_stream
    if hasattr(value, "keys"):
        parts = cut(", ".join(map(str, value)))
        raise TableError(name, f"it is a {type(value).__name__} of {parts}; hand one over")
    reason = f"it is a {type(value).__name__}; a DataFrame or an Arrow table is needed"
    raise TableError(name, reason)


def _from_stream(stream: Any) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_stream(stream)


def _from_pandas(frame: pd.DataFrame, name: str) -> pa.Table:
    """A frame with what is named of its index, as files of pandas have it."""
    named = [level for level in frame.index.names if level is not None]
    doubled = [str(level) for level in named if level in frame.columns]
    doubled += [str(column) for column in frame.columns[frame.columns.duplicated()]]
    if doubled:
        reason = "this name is given to two columns"
        raise TableError(name, [TableProblem(reason, column=column) for column in doubled])
    if named:
        frame = frame.reset_index(level=named)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except FOREIGN_ERRORS as exc:
        raise TableError(name, _unreadable_columns(frame) or reason_of(exc)) from exc
    return table.replace_schema_metadata()


def _unreadable_columns(frame: pd.DataFrame) -> list[TableProblem]:
    """The columns that Arrow cannot hold, such as those of numbers and text."""
    problems = []
    for place, column in enumerate(frame.columns):
        try:
            pa.Array.from_pandas(frame.iloc[:, place])
        except FOREIGN_ERRORS as exc:  # noqa: PERF203 - each column fails alone
            kinds = sorted({type(value).__name__ for value in frame.iloc[:, place].dropna()})
            reason = f"its values ({', '.join(kinds)}) are no column of one type: {reason_of(exc)}"
            problems.append(TableProblem(reason, column=str(column)))
    return problems


def _from_hugging_face(dataset: Any) -> pa.RecordBatchReader:
    tables: Iterator[pa.Table] = dataset.with_format("arrow").iter(batch_size=READ_BATCH_ROWS)
    first = next(tables, None)
    if first is None:
        features = dataset.features
        return pa.table({name: [] for name in features or ()}).to_reader()
    batches = (batch for table in chain([first], tables) for batch in table.to_batches())
    return pa.RecordBatchReader.from_batches(first.schema, batches)
