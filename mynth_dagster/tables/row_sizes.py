"""
How many bytes the rows of a batch take, and batches cut into pieces by them.

Sizes are those of the values written out: a value that a dictionary holds once counts in each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pat

from mynth_dagster.limits import READ_BATCH_BYTES

Sizes = npt.NDArray[np.int64]


def row_bytes(columns: Iterable[pa.Array], n_rows: int) -> Sizes:
    """The bytes of each row over some columns."""
    total = np.zeros(n_rows, np.int64)
    for column in columns:
        total += value_bytes(column)
    return total


def value_bytes(column: pa.Array) -> Sizes:
    """The bytes of each value of a column; nearly, where its type is a rare one."""
    while isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind, n_rows = column.type, len(column)
    if n_rows == 0 or pat.is_null(kind):
        return np.zeros(n_rows, np.int64)
    if pat.is_dictionary(kind):
        return _dictionary_bytes(column)
    if pat.is_list(kind) or pat.is_large_list(kind) or pat.is_map(kind):
        return _list_bytes(column)
    if pat.is_struct(kind):
        return row_bytes(column.flatten(), n_rows)
    if _is_binary(kind):
        lengths = pc.binary_length(column).fill_null(0)
        return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64) + 4
    return np.full(n_rows, max(column.nbytes // n_rows, 1), np.int64)


def n_bytes_of(batch: pa.RecordBatch) -> int:
    """The bytes of all rows of a batch."""
    if not any(map(_has_dictionary, batch.schema.types)):
        return int(batch.nbytes)
    return int(row_bytes(batch.columns, batch.num_rows).sum())


def pieces(sizes: Sizes, bytes_max: int) -> Iterator[slice]:
    """Rows that follow each other and take up to so many bytes; a single row may take more."""
    ends, start = _running(sizes), 0
    while start < len(sizes):
        fitting = int(np.searchsorted(ends, ends[start] + bytes_max, side="right")) - 1
        stop = max(fitting, start + 1)
        yield slice(start, stop)
        start = stop


def split(batch: pa.RecordBatch, bytes_max: int) -> Iterator[pa.RecordBatch]:
    """A batch in pieces of up to so many bytes, or of one row."""
    if is_surely_small(batch, bytes_max):
        yield batch
        return
    for piece in pieces(row_bytes(batch.columns, batch.num_rows), bytes_max):
        yield batch.slice(piece.start, piece.stop - piece.start)


def repeated_pieces(columns: Sequence[pa.Array], places: Sequence[int]) -> Iterator[slice]:
    """
    Parts of ``places`` whose rows, copied from these columns, take up to `READ_BATCH_BYTES`.

    So that columns with 32-bit offsets hold them, however often each row is copied.
    """
    if not places:
        return
    if not columns:
        yield slice(0, len(places))
        return
    sizes = row_bytes(columns, len(columns[0]))
    yield from pieces(sizes[np.asarray(places, np.int64)], READ_BATCH_BYTES)


def is_surely_small(batch: pa.RecordBatch, bytes_max: int) -> bool:
    """Whether a batch fits by its buffers alone: no value stands for many."""
    return batch.nbytes <= bytes_max and not any(map(_has_dictionary, batch.schema.types))


def _dictionary_bytes(column: pa.DictionaryArray) -> Sizes:
    if len(column.dictionary) == 0:
        return np.zeros(len(column), np.int64)
    places = column.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.asarray(value_bytes(column.dictionary)[places], np.int64)


def _list_bytes(column: pa.Array) -> Sizes:
    if pat.is_map(column.type):
        items = value_bytes(column.keys) + value_bytes(column.items)
    else:
        items = value_bytes(column.values)
    offsets = column.offsets.to_numpy().astype(np.int64)
    return np.asarray(np.diff(_running(items)[offsets]) + 4, np.int64)


def _is_binary(kind: pa.DataType) -> bool:
    is_text = pat.is_string(kind) or pat.is_large_string(kind)
    return bool(is_text or pat.is_binary(kind) or pat.is_large_binary(kind))


def _has_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    parts = (kind.field(n).type for n in range(kind.num_fields))
    return bool(pat.is_dictionary(kind)) or any(map(_has_dictionary, parts))


def _running(sizes: Sizes) -> Sizes:
    """The sum of all sizes before each, and of all at the end."""
    return np.concatenate(([0], np.cumsum(sizes)))
