"""
Where prompt rows come from: Parquet files of any fsspec file system, or an upstream table.

A source is read in batches, one file at a time, and can be read more than once.
Rows are numbered from 0 in reading order: files by name, rows as they stand.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from mynth_dagster.errors import TableError, TableProblem
from mynth_dagster.limits import READ_BATCH_BYTES, READ_BATCH_ROWS
from mynth_dagster.tables.arrow_errors import FOREIGN_ERRORS, as_table_errors, reason_of
from mynth_dagster.tables.parquet import iter_row_group, open_parquet, require_small_rows
from mynth_dagster.tables.row_sizes import split

_GLOB_CHARACTERS = frozenset("*?[")


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

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows from the first one on, bounded in number and in bytes at a time."""
        ...

    def where(self, row: int) -> str:
        """A row already read in words, for complaints."""
        ...


def open_source(location: str) -> PromptSource:
    """
    A Parquet file, a folder of them (all levels), or a pattern; any fsspec URL.

    Names that begin with `_` or `.` are skipped. Files must agree in columns and types.

    Raises:
        TableError: Nothing there, nothing readable, or files that do not agree.
    """
    with as_table_errors(location, "cannot open the prompt table"):
        fs, path = url_to_fs(location)
        paths = _find_files(fs, path, location)
    return ParquetSource(
        location, fs, tuple(paths), _common_schema(fs, paths), _folder_of(fs, path, location)
    )


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

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in self.table.to_batches(READ_BATCH_ROWS):
            require_small_rows(batch, self.name, row)
            row += batch.num_rows
            yield from split(batch, READ_BATCH_BYTES)

    def where(self, row: int) -> str:
        return f"row {row}"


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files in the order of their names."""

    name: str
    fs: Any
    paths: tuple[str, ...]
    schema: pa.Schema
    folder: str | None = None
    _first_rows: list[int] = field(default_factory=list)

    def batches(self) -> Iterator[pa.RecordBatch]:
        self._first_rows.clear()
        n_rows = 0
        for path in self.paths:
            self._first_rows.append(n_rows)
            for batch in self._batches_of(path, n_rows):
                n_rows += batch.num_rows
                yield batch

    def where(self, row: int) -> str:
        if len(self.paths) == 1:
            return f"row {row}"
        return f"row {row} (in {self.paths[bisect_right(self._first_rows, row) - 1]})"

    def _batches_of(self, path: str, first_row: int) -> Iterator[pa.RecordBatch]:
        with _opened(self.fs, path) as parquet:
            n_groups = parquet.num_row_groups
        row = first_row
        for group in range(n_groups):
            for batch in _batches_of_group(self.fs, path, group, row):
                row += batch.num_rows
                yield _conformed(batch, self.schema, path)


def _batches_of_group(fs: Any, path: str, group: int, row: int) -> Iterator[pa.RecordBatch]:
    try:
        for batch in iter_row_group(fs, path, group):
            row += batch.num_rows
            yield batch
    except FOREIGN_ERRORS as exc:
        column = _damaged_column(fs, path, group)
        reason = f"row group {group} cannot be read: {reason_of(exc)}"
        raise TableError(path, [TableProblem(reason, row, column)]) from exc


def _damaged_column(fs: Any, path: str, group: int) -> str | None:
    """The first column of a row group that cannot be read alone."""
    with _opened(fs, path) as parquet:
        names = parquet.schema_arrow.names
    return next((name for name in names if not _is_readable(fs, path, group, name)), None)


def _is_readable(fs: Any, path: str, group: int, column: str) -> bool:
    try:
        for _ in iter_row_group(fs, path, group, columns=[column]):
            pass
    except FOREIGN_ERRORS:
        return False
    return True


@contextmanager
def _opened(fs: Any, path: str) -> Iterator[pq.ParquetFile]:
    with as_table_errors(path, "cannot be read as Parquet"), open_parquet(fs, path) as parquet:
        yield parquet


def _conformed(batch: pa.RecordBatch, schema: pa.Schema, path: str) -> pa.RecordBatch:
    """The batch in the order and types of the whole source: files may differ in both a little."""
    if batch.schema.equals(schema):
        return batch
    with as_table_errors(path, "does not fit the other files"):
        return batch.select(schema.names).cast(schema)


def _find_files(fs: Any, path: str, location: str) -> list[str]:
    if fs.isfile(path):
        return [path]
    if fs.isdir(path):
        return _files_below(fs, path) or _refuse(location, "the folder has no *.parquet files")
    if not _GLOB_CHARACTERS.intersection(path):
        _refuse(location, "there is no such file or folder")
    found: list[str] = []
    for match in sorted(fs.glob(path)):
        if _is_hidden(posixpath.basename(match)):
            continue
        found += _files_below(fs, match) if fs.isdir(match) else [match]
    return found or _refuse(location, "the pattern matches no file")


def _folder_of(fs: Any, path: str, location: str) -> str | None:
    """
    The folder that a location names: itself, its file's, or the last one before a pattern.

    As the location spells it; None for one of several file systems chained together.
    """
    if "::" in location:
        return None
    if fs.isdir(path):
        return location
    while _GLOB_CHARACTERS.intersection(path) and not fs.isfile(path):
        path, location = posixpath.dirname(path), posixpath.dirname(location)
    return location if fs.isdir(path) else posixpath.dirname(location)


def _files_below(fs: Any, folder: str) -> list[str]:
    prefix = folder.rstrip("/") + "/"
    return sorted(
        path
        for path in fs.find(folder)
        if path.endswith(".parquet") and not _is_hidden_path(path.removeprefix(prefix))
    )


def _refuse(location: str, reason: str) -> list[str]:
    raise TableError(location, reason)


def _is_hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _is_hidden_path(path: str) -> bool:
    return any(_is_hidden(part) for part in path.split("/"))


def _common_schema(fs: Any, paths: Sequence[str]) -> pa.Schema:
    """
    The columns of all files.

    Files may order them differently, and a file in which a column is empty throughout
    may have given it no type. Any other difference is an error.
    """
    common: dict[str, pa.Field] = {}
    for path in paths:
        with _opened(fs, path) as parquet:
            found = parquet.schema_arrow
        _require_distinct_names(path, found.names)
        fields = {column.name: column.remove_metadata() for column in found}
        if not common:
            common = fields
            continue
        _merge(common, fields, path, paths[0])
    return pa.schema([column.with_nullable(nullable=True) for column in common.values()])


def _merge(common: dict[str, pa.Field], fields: dict[str, pa.Field], path: str, first: str) -> None:
    for name in [*common, *fields]:
        if name not in common or name not in fields:
            lacking, having = (path, first) if name in common else (first, path)
            reason = f"{posixpath.basename(having)} has this column, {lacking} has not"
            raise TableError(path, [TableProblem(reason, column=name)])
        ours, theirs = common[name].type, fields[name].type
        if pa.types.is_null(ours):
            common[name] = fields[name]
        elif not pa.types.is_null(theirs) and theirs != ours:
            reason = f"has type {theirs} here and {ours} in {posixpath.basename(first)}"
            raise TableError(path, [TableProblem(reason, column=name)])


def _require_distinct_names(path: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise TableError(path, [TableProblem("this name is given to two columns", column=name)])


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
