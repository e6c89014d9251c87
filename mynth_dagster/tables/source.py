"""
Where prompt rows come from: Parquet files of any fsspec file system, or an upstream table.

A source is read in batches, one file at a time, and can be read more than once.
Rows are numbered from 0 in reading order: files by name, rows as they stand.
"""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from mynth_dagster.errors import TableError, TableProblem
from mynth_dagster.limits import READ_BATCH_BYTES, READ_BATCH_ROWS
from mynth_dagster.tables.arrow_errors import FOREIGN_ERRORS, as_table_errors, reason_of
from mynth_dagster.tables.arrow_types import converted, says_nothing
from mynth_dagster.tables.folders import find_files, has_glob, left_out_note
from mynth_dagster.tables.parquet import iter_row_group, require_small_rows
from mynth_dagster.tables.row_sizes import split
from mynth_dagster.tables.source_schema import FileSchema, common_schema, own_schema

_CREDENTIALS = re.compile("//[^/@]*@")


class PromptSource(Protocol):
    """Rows to be asked for, in a fixed order."""

    @property
    def name(self) -> str:
        """What complaints call it: a location, or an asset."""
        ...

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def folder(self) -> str | None:
        """Where relative paths in it start, as a complete URL or path; None where nowhere."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """By what it is the same table in another run: any one of these, the first for people."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What users should know of how it is read, in words."""
        ...

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows from the first one on, bounded in number and in bytes at a time."""
        ...

    def has_values(self, column: str) -> bool:
        """Whether a column says anything in any row."""
        ...

    def where(self, row: int) -> str:
        """A row already read in words, for complaints."""
        ...


def open_source(location: str) -> PromptSource:
    """
    A Parquet file, a folder of them (all levels), or a pattern; any fsspec URL.

    Names that begin with `_` or `.` are skipped. Files must have the same columns, in types that
    hold the same; `key=value` folders are columns.

    Raises:
        TableError: Nothing there, nothing readable, files that do not agree, or a table of a
            format that is more than its files.
    """
    with as_table_errors(location, "cannot open the prompt table"):
        fs, path = url_to_fs(location)
        if isinstance(fs, LocalFileSystem) and "://" not in location:
            location = path  # absolute: an error says where it was looked for
        found = find_files(fs, path, location)
        folder = _folder_of(fs, path, location)
    files = [FileSchema.read(fs, path) for path in found.paths]
    schema = common_schema(fs, files)
    notes = tuple(left_out_note(found.left_out))
    addresses = _addresses_of(fs, path, location)
    return ParquetSource(location, fs, tuple(files), schema, folder, addresses, notes)


def source_from_arrow(rows: pa.Table | pa.RecordBatchReader, name: str) -> PromptSource:
    """
    The rows of an upstream asset.

    A reader can be read only once: it is copied to an unnamed temporary file.
    """
    if isinstance(rows, pa.Table):
        return ArrowSource(name, rows)
    with as_table_errors(name, "cannot read the upstream rows"):
        return ArrowSource(name, _spooled(rows))


@dataclass(frozen=True)
class ArrowSource:
    """Rows in memory, or in a memory-mapped temporary file."""

    name: str
    table: pa.Table
    folder: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"asset {self.name}",)

    @property
    def schema(self) -> pa.Schema:
        return own_schema(self.table.schema, self.name)

    def batches(self) -> Iterator[pa.RecordBatch]:
        row, schema = 0, self.schema
        for batch in self.table.to_batches(READ_BATCH_ROWS):
            require_small_rows(batch, self.name, row)
            row += batch.num_rows
            for piece in split(batch, READ_BATCH_BYTES):
                columns = [converted(piece.column(column.name), column.type) for column in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def has_values(self, column: str) -> bool:
        return not says_nothing(self.table.column(column))

    def where(self, row: int) -> str:
        return f"row {row}"


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files in the order of their names."""

    name: str
    fs: Any
    files: tuple[FileSchema, ...]
    schema: pa.Schema
    folder: str | None = None
    addresses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    _first_rows: list[int] = field(default_factory=list)

    def batches(self) -> Iterator[pa.RecordBatch]:
        self._first_rows.clear()
        n_rows = 0
        for file in self.files:
            self._first_rows.append(n_rows)
            for batch in self._batches_of(file, n_rows):
                n_rows += batch.num_rows
                yield batch

    def has_values(self, column: str) -> bool:
        return any(file.has_values(self.fs, column) for file in self.files)

    def where(self, row: int) -> str:
        if len(self.files) == 1:
            return f"row {row}"
        return f"row {row} (in {self.files[bisect_right(self._first_rows, row) - 1].path})"

    def _batches_of(self, file: FileSchema, first_row: int) -> Iterator[pa.RecordBatch]:
        row = first_row
        for group in range(file.n_row_groups):
            for batch in _batches_of_group(self.fs, file, group, row):
                yield file.conformed(batch, self.schema, row)
                row += batch.num_rows


def _batches_of_group(fs: Any, file: FileSchema, group: int, row: int) -> Iterator[pa.RecordBatch]:
    try:
        for batch in iter_row_group(fs, file.path, group, columns=file.columns):
            row += batch.num_rows
            yield batch
    except FOREIGN_ERRORS as exc:
        column = _damaged_column(fs, file, group)
        reason = f"row group {group} cannot be read: {reason_of(exc)}"
        raise TableError(file.path, [TableProblem(reason, row, column)]) from exc


def _damaged_column(fs: Any, file: FileSchema, group: int) -> str | None:
    """The first column of a row group that cannot be read alone."""
    names = file.schema.names
    return next((name for name in names if not _is_readable(fs, file.path, group, name)), None)


def _is_readable(fs: Any, path: str, group: int, column: str) -> bool:
    try:
        for _ in iter_row_group(fs, path, group, columns=[column]):
            pass
    except FOREIGN_ERRORS:
        return False
    return True


def _addresses_of(fs: Any, path: str, location: str) -> tuple[str, ...]:
    """A local table by its path and by what that links to, any other by its URL without secrets."""
    if isinstance(fs, LocalFileSystem):
        return tuple(dict.fromkeys((path.rstrip("/"), os.path.realpath(path))))
    url = location if "::" in location else str(fs.unstrip_protocol(path))
    return (_CREDENTIALS.sub("//", url).partition("?")[0].rstrip("/"),)


def _folder_of(fs: Any, path: str, location: str) -> str | None:
    """
    The folder that a location names: itself, its file's, or the last one before a pattern.

    As the location spells it; None for one of several file systems chained together.
    """
    if "::" in location:
        return None
    if fs.isdir(path):
        return location
    while has_glob(path) and not fs.isfile(path):
        path, location = posixpath.dirname(path), posixpath.dirname(location)
    return location if fs.isdir(path) else posixpath.dirname(location)


def _spooled(reader: pa.RecordBatchReader) -> pa.Table:
    descriptor, path = tempfile.mkstemp(prefix="mynth-prompts-", suffix=".arrows")
    try:
        with os.fdopen(descriptor, "wb") as spool, pa.ipc.new_stream(spool, reader.schema) as out:
            for batch in reader:
                out.write_batch(batch)
        return pa.ipc.open_stream(pa.memory_map(path)).read_all()
    finally:
        with suppress(OSError):  # where a mapped file cannot lose its name, the system cleans up
            os.unlink(path)  # noqa: PTH108 - the name is tempfile's
