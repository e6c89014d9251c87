"""
Where the tables of a batch live, and how they are read.

Layout: `<root>/<batch>/<table>/<slice.path>/part-0.parquet` on any fsspec file system.
Writing goes by temporary names first, which are renamed when all is written.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.errors import TableError
from mynth_dagster.limits import READ_BATCH_BYTES, READ_BATCH_ROWS
from mynth_dagster.models.batch import FAN_OUT_FOLDER, Batch, Slice
from mynth_dagster.tables.parquet import (
    FOREIGN_ERRORS,
    as_table_errors,
    iter_row_groups,
    n_bytes_of,
    open_file_system,
    open_parquet,
)

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

    Reading only; `staged_tables` writes.
    """

    root: str
    batch_name: str

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system of the root."""
        return open_file_system(self.root)[0]

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    @cached_property
    def batch_folder(self) -> str:
        """The folder of all tables of the batch, as a path of `fs`."""
        root = open_file_system(self.root)[1].rstrip("/")
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
        keys, called = self._keys(table), batch.window_dimension
        others = _windows_in(keys) - {called}
        if others:
            named = ", ".join(f"{name}=" for name in sorted(others))
            reason = f"folders are called {named} and not {called}=: say --window {min(others)}"
            raise TableError(self._top(table), reason)
        return [batch.slice(key.get(called, ""), key.get(FAN_OUT_FOLDER, "")) for key in keys]

    def window_dimension(self, table: str) -> str | None:
        """
        What the table's windows are called in its folders; None where it has none.

        Raises:
            TableError: Their folders have several names.
        """
        names = _windows_in(self._keys(table))
        if len(names) > 1:
            named = ", ".join(f"{name}=" for name in sorted(names))
            reason = f"folders are called {named}: say which are the windows (--window NAME)"
            raise TableError(self._top(table), reason)
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

    def data_digest(self, table: str, slice_: Slice) -> str:
        """Identify the rows of a table: equal rows of the same release are equal bytes."""
        path = self.path(table, slice_)
        with self._reading(table, slice_):
            # The footer is left out: the ledger's version in it may rise while the rows stay.
            with open_parquet(self.fs, path) as parquet:
                n_footer_bytes = parquet.metadata.serialized_size + _PARQUET_TAIL_BYTES
            n_data_bytes = self.fs.size(path) - n_footer_bytes
            return _digest(self.fs, path, n_data_bytes)

    def read_metadata(self, table: str, slice_: Slice) -> dict[str, str]:
        """Our keys in the footer: `mynth:version`, `mynth:schema` and what else we wrote."""
        footer = self.read_schema(table, slice_).metadata or {}
        return {
            key.decode(): value.decode()
            for key, value in footer.items()
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


def _windows_in(folders: Iterable[Mapping[str, str]]) -> set[str]:
    """What folders are called that are not those of a fan-out."""
    return {name for keys in folders for name in keys} - {FAN_OUT_FOLDER}


# Writing tables so that a reader sees the old one or the new one, never a part.
#
# Each file is written under a temporary name beside its place and renamed at the very end.
# Temporary names start with a dot and do not end in `.parquet`: no dataset reader picks them up.


DIGEST_CHUNK_BYTES = 1024 * 1024
ROW_GROUP_ROWS = READ_BATCH_ROWS  # a reader holds one decoded, the writer one plain
_TEMP_PREFIX = ".part-0."
_TEMP_SUFFIX = ".tmp"


_PARQUET_TAIL_BYTES = 8  # the length of the footer, and PAR1


def _digest(fs: Any, path: str, n_bytes: int | None = None) -> str:
    """Hash a file, or its first bytes."""
    digest, n_left = hashlib.sha256(), fs.size(path) if n_bytes is None else n_bytes
    with fs.open(path, "rb") as file:
        while n_left > 0 and (chunk := file.read(min(DIGEST_CHUNK_BYTES, n_left))):
            digest.update(chunk)
            n_left -= len(chunk)
    return digest.hexdigest()


class StagedTable:
    """
    One table being written; rows are kept back until a row group is full, by rows or by bytes.

    Row groups have the same size whatever batches come in, so equal rows make equal bytes; only
    where large rows fill one early, it ends with the batch.
    """

    def __init__(
        self,
        store: TableStore,
        table: str,
        slice_: Slice,
        schema: pa.Schema,
        *,
        row_group_rows: int,
        row_group_bytes: int,
    ) -> None:
        self.uri = store.uri(table, slice_)
        self.schema = schema
        self.n_rows = 0
        self._fs, self._is_local = store.fs, store.is_local
        self._final_path = store.path(table, slice_)
        self._temp_path = posixpath.join(store.folder(table, slice_), temp_name())
        self._row_group_rows, self._row_group_bytes = row_group_rows, row_group_bytes
        self._n_kept_bytes = 0
        self._kept: list[pa.RecordBatch] = []
        self._n_kept = 0
        self._sink: Any = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; memory is bounded by one row group."""
        if batch.num_rows == 0:
            return
        self.n_rows += batch.num_rows
        self._kept.append(batch)
        self._n_kept += batch.num_rows
        self._n_kept_bytes += n_bytes_of(batch)
        if self._n_kept_bytes >= self._row_group_bytes:
            self._flush(all_rows=True)
        elif self._n_kept >= self._row_group_rows:
            self._flush(all_rows=False)

    def open(self) -> None:
        """Create the temporary file."""
        with as_table_errors(self.uri, "cannot create the table"):
            self._fs.makedirs(posixpath.dirname(self._final_path), exist_ok=True)
            opened = pa.OSFile if self._is_local else self._fs.open
            self._sink = opened(self._temp_path, "wb")
            self._writer = pq.ParquetWriter(
                self._sink, self.schema, compression="zstd", write_page_checksum=True
            )

    def close(self) -> None:
        """Write what is kept back and bring it to the disk; the table is not yet visible."""
        if self._writer is None:
            return
        self._flush(all_rows=True)
        with as_table_errors(self.uri, "cannot write the table"):
            self._writer.close()
            self._writer = None
            self._sink.close()
            if self._is_local:
                sync(self._temp_path)

    def differs_from_published(self) -> bool:
        """Whether publishing will change what a reader sees; to be asked after `close`."""
        with as_table_errors(self.uri, "cannot compare the table"):
            if not self._fs.exists(self._final_path):
                return True
            if self._fs.size(self._temp_path) != self._fs.size(self._final_path):
                return True
            return _digest(self._fs, self._temp_path) != _digest(self._fs, self._final_path)

    def publish(self) -> None:
        """Give the table its name; a reader sees the old rows until here and the new ones after."""
        with as_table_errors(self.uri, "cannot publish the table"):
            rename(self._fs, self._temp_path, self._final_path)

    def discard(self) -> None:
        """Remove what was written; harmless after `publish`."""
        with suppress(*FOREIGN_ERRORS):
            if self._writer is not None:
                self._writer.close()
        with suppress(*FOREIGN_ERRORS):
            if self._sink is not None:
                self._sink.close()
        with suppress(*FOREIGN_ERRORS):
            self._fs.rm_file(self._temp_path)

    def remove_orphans(self) -> None:
        """Remove temporary files that dead processes of this machine left beside this table."""
        remove_orphans(self._fs, posixpath.dirname(self._final_path))

    def _flush(self, *, all_rows: bool) -> None:
        assert self._writer is not None
        rows = pa.Table.from_batches(self._kept, self.schema)
        n_whole = rows.num_rows - rows.num_rows % self._row_group_rows
        n_now = rows.num_rows if all_rows else n_whole
        with as_table_errors(self.uri, "cannot write the table"):
            if n_now:
                self._writer.write_table(rows.slice(0, n_now), row_group_size=self._row_group_rows)
        self._kept = rows.slice(n_now).to_batches()
        self._n_kept = rows.num_rows - n_now
        self._n_kept_bytes = sum(map(n_bytes_of, self._kept))


class Staging:
    """Several tables being written together; made by `staged_tables`."""

    def __init__(self, store: TableStore) -> None:
        self._store = store
        self._tables: list[StagedTable] = []

    def open(
        self,
        table: str,
        slice_: Slice,
        schema: pa.Schema,
        *,
        footer: Mapping[str, str] | None = None,
        row_group_rows: int = ROW_GROUP_ROWS,
        row_group_bytes: int = READ_BATCH_BYTES,
    ) -> StagedTable:
        """Start a table; ``footer`` are keys for its metadata beside the schema's version."""
        keys = {SCHEMA_KEY: SCHEMA_VERSION, **(footer or {})}
        staged = StagedTable(
            self._store,
            table,
            slice_,
            schema.with_metadata(keys),
            row_group_rows=row_group_rows,
            row_group_bytes=row_group_bytes,
        )
        self._tables.append(staged)
        staged.open()
        return staged

    def close(self) -> None:
        """Finish the files open so far, to free their handles; they stay unpublished."""
        for staged in self._tables:
            staged.close()

    def publish(self) -> None:
        self.close()
        reach(CrashPoint.TABLES_STAGED)
        for staged in self._tables:
            staged.publish()
            reach(CrashPoint.TABLE_PUBLISHED)
            staged.remove_orphans()

    def discard(self) -> None:
        for staged in self._tables:
            staged.discard()


@contextmanager
def staged_tables(store: TableStore) -> Iterator[Staging]:
    """
    Write several tables and publish them together at the end.

    All are complete on the disk before the first gets its name.
    After an exception nothing is published and the temporary files are gone.
    """
    staging = Staging(store)
    try:
        yield staging
        staging.publish()
    finally:
        staging.discard()


def temp_name() -> str:
    """A name of this process that no reader of tables picks up."""
    token = secrets.token_hex(4)
    return f"{_TEMP_PREFIX}{_host()}.{os.getpid()}.{token}{_TEMP_SUFFIX}"


def write_atomically(fs: Any, path: str, content: bytes) -> None:
    """Write a small file under a temporary name first, so that none is ever half there."""
    folder = posixpath.dirname(path)
    temp = posixpath.join(folder, temp_name())
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(temp, content)
    rename(fs, temp, path)


def rename(fs: Any, temp: str, path: str) -> None:
    """Give a complete file its name, in place of the one that may have it; to last, if local."""
    if not isinstance(fs, LocalFileSystem):
        fs.mv(temp, path)
        return
    sync(temp)
    os.replace(temp, path)  # noqa: PTH105 - paths are fsspec's
    sync(posixpath.dirname(path))


def remove_orphans(fs: Any, folder: str) -> None:
    """Remove temporary files that dead processes of this machine left in a folder."""
    with suppress(*FOREIGN_ERRORS):
        for path in fs.ls(folder, detail=False):
            if is_orphan(posixpath.basename(path)):
                fs.rm_file(path)


def is_orphan(name: str) -> bool:
    """Whether a file is the temporary of a process of this machine that no longer runs."""
    if not (name.startswith(_TEMP_PREFIX) and name.endswith(_TEMP_SUFFIX)):
        return False
    host, pid, _token = name[len(_TEMP_PREFIX) : -len(_TEMP_SUFFIX)].rsplit(".", 2)
    return host == _host() and not _is_alive(int(pid))


def _host() -> str:
    return socket.gethostname().replace(".", "-").replace("/", "-") or "host"


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # there is no harmless way to ask elsewhere
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sync(path: str) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
