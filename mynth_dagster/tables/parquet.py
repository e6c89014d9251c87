"""
Parquet files, read in batches that are bounded in rows and in bytes.

A file of a few hundred bytes can stand for gigabytes: a value that lies in it once may be the value
of a million rows. Where that may be, such values are read as references and written out piece by
piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from mynth_dagster.errors import TableError, TableProblem
from mynth_dagster.limits import MIB, READ_BATCH_BYTES, READ_BATCH_ROWS, ROW_MAX_BYTES
from mynth_dagster.tables.row_sizes import is_surely_small, row_bytes, split, value_bytes

_TEXT_KINDS = ("NONE", "STRING", "JSON", "ENUM", "BSON")
_DICTIONARIES = frozenset(("PLAIN_DICTIONARY", "RLE_DICTIONARY"))
DELTA_BATCH_BYTES = 512 * MIB  # the most that a batch of such texts can take; most take little
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}


@contextmanager
def open_parquet(fs: Any, path: str, references: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """
    A Parquet file of any fsspec file system, with its checksums verified where it has any.

    ``references`` are columns, by their paths in the file, whose values are read as dictionaries.
    """
    local = isinstance(fs, LocalFileSystem)
    with pa.OSFile(path, "rb") if local else fs.open(path, "rb") as source:
        # Nothing but the named columns is needed at a time: prefetching would hold a row group.
        yield pq.ParquetFile(
            source,
            read_dictionary=list(references),
            coerce_int96_timestamp_unit="us",  # in nanoseconds the year 9999 would be 1816
            pre_buffer=False,
            page_checksum_verification=True,
        )


def iter_row_groups(
    fs: Any, path: str, *, rows_max: int = READ_BATCH_ROWS, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """All rows of a file, by `iter_row_group`."""
    with open_parquet(fs, path) as parquet:
        n_groups = parquet.num_row_groups
    for group in range(n_groups):
        yield from iter_row_group(fs, path, group, rows_max=rows_max, columns=columns)


def iter_row_group(
    fs: Any,
    path: str,
    group: int,
    *,
    rows_max: int = READ_BATCH_ROWS,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """
    The rows of one row group, a piece at a time that is bounded in rows and in bytes.

    Raises:
        TableError: A row takes more than `ROW_MAX_BYTES`.
    """
    with open_parquet(fs, path) as parquet:
        schema = parquet.schema_arrow
        rows = min(rows_max, _rows_at_once(parquet, group, path))
        suspects = [n for n in range(len(parquet.schema)) if _may_swell(parquet, group, n, rows)]
        references = [
            parquet.schema.column(n).path
            for n in suspects
            if _swells(fs, path, group, parquet.schema.column(n), rows)
        ]
    with open_parquet(fs, path, references) as parquet:
        for batch in parquet.iter_batches(
            rows, row_groups=[group], columns=columns, use_threads=False
        ):
            wanted = pa.schema([schema.field(name) for name in batch.schema.names])
            for piece in _bounded(batch, path):
                yield _written_out(piece, wanted) if references else piece


def require_small_rows(batch: pa.RecordBatch, path: str, first_row: int = 0) -> None:
    """
    Refuse what no table of ours should multiply.

    Raises:
        TableError: A row takes more than `ROW_MAX_BYTES`.
    """
    if is_surely_small(batch, ROW_MAX_BYTES):
        return
    sizes = row_bytes(batch.columns, batch.num_rows)
    row = int(sizes.argmax()) if len(sizes) else 0
    if len(sizes) and sizes[row] > ROW_MAX_BYTES:
        by_column = [int(value_bytes(column)[row]) for column in batch.columns]
        column = batch.schema.names[by_column.index(max(by_column))]
        raise TableError(path, [TableProblem(_too_large(int(sizes[row])), first_row + row, column)])


def _bounded(batch: pa.RecordBatch, path: str) -> Iterator[pa.RecordBatch]:
    require_small_rows(batch, path)
    yield from split(batch, READ_BATCH_BYTES)


def _written_out(piece: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    rows = pa.array(range(piece.num_rows), pa.int32())  # a cast minds lists beyond those of a slice
    return piece.take(rows).cast(schema)


def _rows_at_once(parquet: pq.ParquetFile, group: int, path: str) -> int:
    """As many rows as are decoded together, by what the file tells of its row group."""
    stored = parquet.metadata.row_group(group)
    n_bytes, rows = 0, READ_BATCH_ROWS
    for n in range(stored.num_columns):
        column, chunk = parquet.schema.column(n), stored.column(n)
        width = _WIDTHS.get(column.physical_type, column.length)
        n_bytes += max(chunk.total_uncompressed_size, width * chunk.num_values)
        if "DELTA_BYTE_ARRAY" in chunk.encodings:  # a text may go on from the one before
            rows = min(rows, DELTA_BATCH_BYTES // max(chunk.total_uncompressed_size, 1))
    per_row = int(n_bytes // max(stored.num_rows, 1))
    if per_row > ROW_MAX_BYTES:
        raise TableError(path, f"row group {group}: {_too_large(per_row)}")
    return max(1, min(rows, READ_BATCH_BYTES // max(per_row, 1)))


def _too_large(n_bytes: int) -> str:
    return (
        f"a row takes {n_bytes // MIB} MB, up to {ROW_MAX_BYTES // MIB} MB can be carried: "
        "keep large values in files and carry their paths"
    )


def _may_swell(parquet: pq.ParquetFile, group: int, n: int, rows: int) -> bool:
    """Whether so many rows of a column may take far more bytes than lie in the file."""
    column, chunk = parquet.schema.column(n), parquet.metadata.row_group(group).column(n)
    is_text = column.physical_type == "BYTE_ARRAY" and column.logical_type.type in _TEXT_KINDS
    if not is_text or _DICTIONARIES.isdisjoint(chunk.encodings):
        return False
    n_values = chunk.num_values if column.max_repetition_level else min(rows, chunk.num_values)
    return bool(chunk.total_uncompressed_size * n_values >= READ_BATCH_BYTES)


def _swells(fs: Any, path: str, group: int, column: Any, rows: int) -> bool:
    """The same, by a look at the values that the column holds once for many rows."""
    if column.max_repetition_level:
        return True
    with open_parquet(fs, path, [column.path]) as parquet:
        first = parquet.iter_batches(
            1, row_groups=[group], columns=[column.path], use_threads=False
        )
        values = next(first).column(0)
    while pa.types.is_struct(values.type):
        values = values.field(0)
    longest = pc.max(pc.binary_length(values.dictionary)).as_py()
    return longest is None or longest * rows >= READ_BATCH_BYTES
