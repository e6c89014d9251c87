"""
Where the tables of a batch live, and how they are read.

Layout: `<root>/<batch>/<table>/<slice.path>/part-0.parquet` on any fsspec file system.
Writing is in `staging`: temporary names first, renamed when all is written.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from mynth_dagster.errors import TableError
from mynth_dagster.limits import READ_BATCH_ROWS
from mynth_dagster.models.batch import FAN_OUT_FOLDER, Batch, Slice
from mynth_dagster.tables.arrow_errors import as_table_errors
from mynth_dagster.tables.parquet import iter_row_groups, open_parquet

PART_NAME = "part-0.parquet"

PROMPTS = "prompts"
TASKS = "tasks"
IMAGES = "images"
FAILURES = "failures"

VERSION_KEY = "mynth:version"
"""Footer key: the ledger's version of the partition that the table shows, as text."""
SCHEMA_KEY = "mynth:schema"
SCHEMA_VERSION = "1"


@dataclass(frozen=True)
class TableStore:
    """
    The tables of one batch under one root: a local path, `memory://`, `s3://…`.

    Reading only; `staging.staged_tables` writes.
    """

    root: str
    batch_name: str

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system of the root."""
        return url_to_fs(self.root)[0]

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    @cached_property
    def batch_folder(self) -> str:
        """The folder of all tables of the batch, as a path of `fs`."""
        root = url_to_fs(self.root)[1].rstrip("/")
        return posixpath.join(root or "/", self.batch_name)

    def folder(self, table: str, slice_: Slice) -> str:
        """The folder of one table, as a path of `fs`."""
        return posixpath.join(self.batch_folder, table, slice_.path).rstrip("/")

    def path(self, table: str, slice_: Slice) -> str:
        """The file of one table, as a path of `fs`."""
        return f"{self.folder(table, slice_)}/{PART_NAME}"

    def uri(self, table: str, slice_: Slice) -> str:
        """The file of one table as users and readers spell it; local paths stay plain paths."""
        path = self.path(table, slice_)
        return path if self.is_local else str(self.fs.unstrip_protocol(path))

    def slices(self, table: str, batch: Batch) -> list[Slice]:
        """
        The partitions of which the table was ever written.

        Raises:
            TableError: Its windows are not called as those of the batch.
        """
        found, called = self._keys(table), batch.window_dimension
        others = _windows_in(found) - {called}
        if others:
            named = ", ".join(f"{name}=" for name in sorted(others))
            said = f"folders are called {named} and not {called}=: say --window {min(others)}"
            raise TableError(self._top(table), said)
        return [batch.slice(keys.get(called, ""), keys.get(FAN_OUT_FOLDER, "")) for keys in found]

    def window_dimension(self, table: str) -> str | None:
        """
        What the table's windows are called in its folders; None where it has none.

        Raises:
            TableError: Their folders have several names.
        """
        names = _windows_in(self._keys(table))
        if len(names) > 1:
            named = ", ".join(f"{name}=" for name in sorted(names))
            said = f"folders are called {named}: say which are the windows (--window NAME)"
            raise TableError(self._top(table), said)
        return next(iter(names), None)

    def _top(self, table: str) -> str:
        return posixpath.join(self.batch_folder, table)

    def _keys(self, table: str) -> list[dict[str, str]]:
        """The keys, by name, in the path of each of the table's files."""
        top = self._top(table)
        with as_table_errors(top, "cannot look for tables"):
            paths = sorted(self.fs.glob(f"{top}/**/{PART_NAME}"))
        return [_keys_in(posixpath.relpath(posixpath.dirname(path), top)) for path in paths]

    def exists(self, table: str, slice_: Slice) -> bool:
        """Whether the table was ever written."""
        uri = self.uri(table, slice_)
        with as_table_errors(uri, "cannot look for the table"):
            return bool(self.fs.isfile(self.path(table, slice_)))

    def read_schema(self, table: str, slice_: Slice) -> pa.Schema:
        """The table's columns; its metadata holds the footer's keys."""
        with (
            self._reading(table, slice_),
            open_parquet(self.fs, self.path(table, slice_)) as parquet,
        ):
            return parquet.schema_arrow

    def read_metadata(self, table: str, slice_: Slice) -> dict[str, str]:
        """Our keys in the footer: `mynth:version`, `mynth:schema` and what else we wrote."""
        found = self.read_schema(table, slice_).metadata or {}
        return {
            key.decode(): value.decode()
            for key, value in found.items()
            if key.startswith(b"mynth:")
        }

    def iter_batches(
        self,
        table: str,
        slice_: Slice,
        *,
        columns: Sequence[str] | None = None,
        batch_rows: int = READ_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """The table's rows in order, bounded in number and in bytes at a time."""
        with self._reading(table, slice_):
            yield from iter_row_groups(
                self.fs, self.path(table, slice_), rows_max=batch_rows, columns=columns
            )

    @contextmanager
    def _reading(self, table: str, slice_: Slice) -> Iterator[None]:
        uri = self.uri(table, slice_)
        with as_table_errors(uri, "cannot read the table"):
            try:
                yield
            except FileNotFoundError as error:
                raise TableError(uri, f"there is no `{table}` yet: make that first") from error


def _keys_in(folders: str) -> dict[str, str]:
    """`date=2026-11-22/fan_out=003` as keys by name."""
    pairs = [folder.partition("=") for folder in folders.split("/") if "=" in folder]
    return {name: unquote(key) for name, _, key in pairs}


def _windows_in(found: Iterable[Mapping[str, str]]) -> set[str]:
    """What folders are called that are not those of a fan-out."""
    return {name for keys in found for name in keys} - {FAN_OUT_FOLDER}
