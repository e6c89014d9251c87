"""
Parquet files, read in batches that are bounded in rows and in bytes.

A file of a few hundred bytes can stand for gigabytes: a value that lies in it once may be the value
of a million rows. Where that may be, such values are read as references and written out piece by
piece.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pyarrow import types as pat

from mynth_dagster.errors import ConfigError, TableError, TableProblem, cut
from mynth_dagster.extras import require_extra
from mynth_dagster.limits import MIB, READ_BATCH_BYTES, READ_BATCH_ROWS, ROW_MAX_BYTES

# How many bytes the rows of a batch take, and batches cut into pieces by them.
#
# Sizes are those of the values written out: a value that a dictionary holds once counts in each
# row.


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
    is_text = pat.is_string(kind) or pat.is_large_string(kind)
    if is_text or pat.is_binary(kind) or pat.is_large_binary(kind):
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


def _has_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    parts = (kind.field(n).type for n in range(kind.num_fields))
    return bool(pat.is_dictionary(kind)) or any(map(_has_dictionary, parts))


def _running(sizes: Sizes) -> Sizes:
    """The sum of all sizes before each, and of all at the end."""
    return np.concatenate(([0], np.cumsum(sizes)))


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
            require_small_rows(batch, path)
            for piece in split(batch, READ_BATCH_BYTES):
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


# The one boundary at which errors of files and Arrow become `TableError`.


FOREIGN_ERRORS = (
    OSError,
    pa.ArrowException,
    ValueError,  # Arrow's "invalid" and bytes that are no UTF-8 are ValueErrors
    LookupError,  # an index beyond a damaged dictionary, among others
    TypeError,
    OverflowError,
    MemoryError,  # a damaged length asks for terabytes
    NotImplementedError,
    ImportError,  # what another library reads with is not installed
)
"""What reading a damaged file was seen to raise."""

_REASONS_BY_ERRNO = {
    errno.ENOENT: "there is no such file",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full; nothing was replaced",
    errno.EDQUOT: "the disk quota is used up; nothing was replaced",
    errno.EFBIG: "the file would be larger than the system allows; nothing was replaced",
    errno.EISDIR: "this is a folder, not a file",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EMFILE: "too many open files",
}


@contextmanager
def as_table_errors(path: str, doing: str) -> Iterator[None]:
    """
    Whatever files and Arrow raise inside becomes a `TableError` about ``path``.

    Raises:
        ConfigError: The package for the file system of ``path`` is not installed.
    """
    try:
        yield
    except ImportError as exc:
        _require_file_system(path, exc)
    except FOREIGN_ERRORS as exc:
        raise TableError(path, f"{doing}: {reason_of(exc)}") from exc


def open_file_system(url: str) -> tuple[Any, str]:
    """
    Open the fsspec file system of a URL or path; return it with the path in it.

    Raises:
        ConfigError: Its package is not installed; names the command that installs it.
    """
    try:
        fs, path = url_to_fs(url)
    except ImportError as exc:
        _require_file_system(url, exc)
    return fs, path


def _require_file_system(url: str, exc: ImportError) -> NoReturn:
    if re.search(r"\bs3a?://", url):
        require_extra("s3", url)
    raise ConfigError(url, reason_of(exc)) from exc


def reason_of(exc: BaseException) -> str:
    """An exception of files or Arrow in one line of words."""
    if isinstance(exc, OSError) and exc.errno in _REASONS_BY_ERRNO:
        return _REASONS_BY_ERRNO[exc.errno]
    if isinstance(exc, FileNotFoundError):
        return _REASONS_BY_ERRNO[errno.ENOENT]
    if isinstance(exc, PermissionError):
        return _REASONS_BY_ERRNO[errno.EACCES]
    if "encrypt" in str(exc).lower() or "decrypt" in str(exc).lower():
        return "the file is encrypted, which is not supported"
    if isinstance(exc, MemoryError):
        return "a length in the file is out of bounds; the file is damaged"
    return cut(str(exc)) or type(exc).__name__


# Arrow types of prompt tables: which hold the same, which our tables can keep, and what two files
# of one table have in common.
#
# Writers choose between types that mean the same to every user: `string` and `large_string`, int32
# and int64, microseconds and nanoseconds. Values are never changed to make types fit: a cast that
# would lose anything is an error.


_UNITS = ("s", "ms", "us")  # nanoseconds end in the year 2262
_DECIMAL_DIGITS_MAX = 38
_INTEGER_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, without dictionary encoding or an extension's name."""
    while isinstance(kind, pa.BaseExtensionType) or pat.is_dictionary(kind):
        kind = kind.value_type if pat.is_dictionary(kind) else kind.storage_type
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings, however they are stored."""
    return bool(pat.is_string(kind) or pat.is_large_string(kind) or _is_view(kind, "string"))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes of any length, which some writers make of text."""
    return bool(pat.is_binary(kind) or pat.is_large_binary(kind) or _is_view(kind, "binary"))


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists, of a fixed size or not."""
    return bool(pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind))


def kept_type(kind: pa.DataType) -> pa.DataType:
    """The type in which our tables keep a column; views become what every reader knows."""
    if _is_view(kind, "string") or _is_view(kind, "binary"):
        return pa.string() if is_text(kind) else pa.binary()
    if pat.is_dictionary(kind):
        return pa.dictionary(kind.index_type, kept_type(kind.value_type), kind.ordered)
    if pat.is_struct(kind):
        return pa.struct([part.with_type(kept_type(part.type)) for part in kind])
    if pat.is_map(kind):
        return pa.map_(kept_type(kind.key_type), kept_type(kind.item_type), kind.keys_sorted)
    if pat.is_list(kind) or pat.is_large_list(kind):
        item = kind.value_field.with_type(kept_type(kind.value_type))
        return pa.list_(item) if pat.is_list(kind) else pa.large_list(item)
    return kind


def why_not_kept(kind: pa.DataType) -> str | None:
    """Why our tables cannot keep a column of a type; None where they can."""
    try:
        empty = pa.table([pa.nulls(1, kind)], ["x"]).take([0])
        pq.write_table(empty, BytesIO())
    except FOREIGN_ERRORS:
        return f"has type {kind}, which Parquet cannot keep: convert it, or leave it out"
    return None


def common_type(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both, None where there is none."""
    if ours == theirs or pat.is_null(theirs):
        return ours
    if pat.is_null(ours):
        return theirs
    if pat.is_dictionary(ours) or pat.is_dictionary(theirs):
        return common_type(plain_type(ours), plain_type(theirs))
    for rule in (_common_text, _common_number, _common_time, _common_nested):
        both = rule(ours, theirs)
        if both is not None:
            return both
    return None


def says_nothing(column: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a column has no value at all: null, or what pandas makes of it, NaN."""
    if column.null_count == len(column):
        return True
    if not pat.is_floating(column.type):
        return False
    return bool(pc.all(pc.is_null(column, nan_is_null=True)).as_py())


def converted(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """
    A column in a type of the whole table.

    Raises:
        ArrowInvalid: A value would not be the same.
    """
    if column.type == kind:
        return column
    is_odd = pat.is_null(kind) or common_type(column.type, kind) is None
    if (is_odd or not pat.is_floating(kind)) and says_nothing(column):
        return pa.nulls(len(column), kind)
    if is_odd:
        raise pa.ArrowInvalid(f"{column.type} is no {kind}")
    if isinstance(column, pa.DictionaryArray) and not pat.is_dictionary(kind):
        column = column.dictionary_decode()
    return column.cast(kind)


def _is_view(kind: pa.DataType, of: str) -> bool:
    is_view = getattr(pat, f"is_{of}_view", None)  # newer than the oldest Arrow that we take
    return bool(is_view and is_view(kind))


def _common_text(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    if is_text(ours) and is_text(theirs):
        return pa.string()
    return pa.binary() if is_bytes(ours) and is_bytes(theirs) else None


def _common_number(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    both = (ours, theirs)
    if all(map(pat.is_integer, both)):
        return _common_integer(ours, theirs)
    if any(map(pat.is_decimal, both)):
        return _common_decimal(ours, theirs)
    if all(pat.is_floating(kind) or pat.is_integer(kind) for kind in both):
        small = all(pat.is_floating(kind) and kind.bit_width <= 32 for kind in both)
        return pa.float32() if small else pa.float64()
    return None


def _common_integer(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType:
    wide, narrow = sorted((ours, theirs), key=lambda kind: kind.bit_width, reverse=True)
    if pat.is_signed_integer(wide) == pat.is_signed_integer(narrow):
        return wide
    is_roomy = pat.is_signed_integer(wide) and wide.bit_width > narrow.bit_width
    return wide if is_roomy else pa.int64()


def _common_decimal(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    digits, scale = 0, 0
    for kind in (ours, theirs):
        if pat.is_integer(kind):
            digits = max(digits, _INTEGER_DIGITS[kind.bit_width])
        elif pat.is_decimal(kind):
            digits, scale = max(digits, kind.precision - kind.scale), max(scale, kind.scale)
        else:
            return None
    return pa.decimal128(digits + scale, scale) if digits + scale <= _DECIMAL_DIGITS_MAX else None


def _common_time(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    both = (ours, theirs)
    if all(map(pat.is_date, both)):
        return pa.date32()
    if all(map(pat.is_timestamp, both)) and (ours.tz is None) == (theirs.tz is None):
        zone = ours.tz if ours.tz == theirs.tz else "UTC"
        return pa.timestamp(_common_unit(ours, theirs), zone)
    if all(map(pat.is_duration, both)):
        return pa.duration(_common_unit(ours, theirs))
    return pa.time64("us") if all(map(pat.is_time, both)) else None


def _common_unit(ours: pa.DataType, theirs: pa.DataType) -> str:
    """The finer of two units, but not finer than the years of everybody's tables allow."""
    return max(
        (kind.unit if kind.unit in _UNITS else "us" for kind in (ours, theirs)), key=_UNITS.index
    )


def _common_nested(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    if is_list(ours) and is_list(theirs):
        item = common_type(ours.value_type, theirs.value_type)
        return None if item is None else pa.list_(item)
    if pat.is_map(ours) and pat.is_map(theirs):
        key = common_type(ours.key_type, theirs.key_type)
        item = common_type(ours.item_type, theirs.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if not (pat.is_struct(ours) and pat.is_struct(theirs)):
        return None
    parts = {part.name: part.type for part in ours}
    for part in theirs:
        kind = common_type(parts.get(part.name, pa.null()), part.type)
        if kind is None:
            return None
        parts[part.name] = kind
    return pa.struct(list(parts.items()))
