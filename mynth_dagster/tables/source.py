"""
Where prompt rows come from: Parquet files of any fsspec file system, or an upstream table.

A source is read in batches, one file at a time, and can be read more than once.
Rows are numbered from 0 in reading order: files by name, rows as they stand.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NoReturn, Protocol, TypeAlias
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from fsspec.implementations.local import LocalFileSystem
from pyarrow import types as pat

from mynth_dagster.errors import TableError, TableProblem, cut, name_some
from mynth_dagster.limits import READ_BATCH_BYTES, READ_BATCH_ROWS
from mynth_dagster.tables.parquet import (
    FOREIGN_ERRORS,
    as_table_errors,
    common_type,
    converted,
    iter_row_group,
    iter_row_groups,
    kept_type,
    open_file_system,
    open_parquet,
    reason_of,
    require_small_rows,
    says_nothing,
    split,
)

# Which files of a folder, or behind a pattern, are the prompt table, and what their folders say.
#
# Files are told by their content; what is left out is remembered by name. `key=value` folders give
# columns, as every other reader of such folders has it. A folder that is more than its files
# (Delta, Iceberg, Hudi, …) is refused: its log says which rows are alive, and we do not read it.


HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What a folder is called whose column has no value."""

_GLOB_CHARACTERS = frozenset("*?[")
_ENDINGS = (".parquet", ".parq", ".pq")
_MAGIC = (b"PAR1", b"PARE")  # plain, and with an encrypted footer
_KEY = re.compile(r"[^=?]+=")

_FORMATS = {
    "_delta_log": (
        "a Delta table",
        "an export (DeltaTable(…).to_pyarrow_table())",
    ),
    ".hoodie": ("a Hudi table", "an export of its newest snapshot"),
    "_spark_metadata": ("the sink of a Spark stream", "an export, as Spark reads it"),
    "_versions": ("a Lance dataset", "an export (lance.dataset(…).to_table())"),
    "metadata/*.metadata.json": ("an Iceberg table", "an export (table.scan().to_arrow())"),
    "snapshot/snapshot-*": ("a Paimon table", "an export of its newest snapshot"),
}
"""What lies in a folder that is more than its files: what it is, and what to hand over instead."""


@dataclass(frozen=True)
class FoundFiles:
    """
    The files of a table, in the order of their paths.

    `left_out` are the names of files beside them that are no Parquet; hidden ones are not told.
    """

    paths: tuple[str, ...]
    left_out: tuple[str, ...] = field(default=())


def find_files(fs: Any, path: str, location: str) -> FoundFiles:
    """
    The Parquet files of a file, a folder (all levels) or a pattern.

    Raises:
        TableError: Nothing is there, or a folder that only its own format's reader can read.
    """
    _refuse_formats_above(fs, path, location)
    if fs.isfile(path):
        return FoundFiles((path,))
    if fs.isdir(path):
        return _found(fs, _below(fs, path, location), location, "the folder has no Parquet files")
    if not has_glob(path):
        raise TableError(location, "there is no such file or folder")
    base = next(folder for folder in _folders_up(path) if not has_glob(folder))
    shown = _is_hidden_below(path, base)  # whoever names hidden files wants them
    matches = [m for m in sorted(fs.glob(path)) if shown or not _is_hidden_below(m, base)]
    files = (
        file
        for match in matches
        for file in (_below(fs, match, location) if fs.isdir(match) else [match])
    )
    candidates = list(dict.fromkeys(files))  # a pattern may match a folder and what is in it
    return _found(fs, candidates, location, "the pattern matches no Parquet file")


def has_glob(path: str) -> bool:
    """Whether a path is a pattern."""
    return bool(_GLOB_CHARACTERS.intersection(path))


def keys_in(path: str) -> dict[str, str | None]:
    """
    The columns that the folders of a file stand for, `lang=en/model=a%2Fb`, by name.

    Raises:
        TableError: A name or value is not UTF-8.
    """
    folders = [part for part in posixpath.dirname(path).split("/") if _KEY.match(part)]
    try:
        pairs = [[unquote(part, errors="strict") for part in key.split("=", 1)] for key in folders]
    except UnicodeDecodeError:
        raise TableError(path, "the name of a key=value folder is not UTF-8") from None
    return {name: None if value == HIVE_NULL else value for name, value in pairs}


def left_out_note(left_out: Iterable[str]) -> list[str]:
    """In words, what was not read; nothing where nothing was left out."""
    names = list(left_out)
    if not names:
        return []
    kind = "1 file is" if len(names) == 1 else f"{len(names)} files are"
    return [f"{kind} no Parquet and left out: {name_some(names)}"]


def _found(fs: Any, candidates: list[str], location: str, otherwise: str) -> FoundFiles:
    paths = [path for path in candidates if _is_parquet(fs, path)]
    chosen = set(paths)
    left_out = [posixpath.basename(path) for path in candidates if path not in chosen]
    if not paths:
        raise TableError(location, "; ".join([otherwise, *left_out_note(left_out)]))
    return FoundFiles(tuple(paths), tuple(left_out))


def _below(fs: Any, folder: str, location: str) -> list[str]:
    """All files of a folder that are not hidden."""
    paths = sorted(fs.find(folder))
    _refuse_formats_below((path[len(folder.rstrip("/")) :] for path in paths), location)
    return [path for path in paths if not _is_hidden_below(path, folder)]


def _is_parquet(fs: Any, path: str) -> bool:
    """By its ending or its first bytes: Hive calls its files `000000_0`."""
    if path.lower().endswith(_ENDINGS):
        return True
    with suppress(*FOREIGN_ERRORS):
        return fs.cat_file(path, start=0, end=4) in _MAGIC
    return False


def _is_hidden_below(path: str, folder: str) -> bool:
    names = path[len(folder.rstrip("/")) :].split("/")
    return any(name.startswith(".") or (name.startswith("_") and "=" not in name) for name in names)


def _refuse_formats_below(names: Iterable[str], location: str) -> None:
    for name in names:
        for marker, (kind, instead) in _FORMATS.items():
            if _lies_in(marker, name):
                _refuse_format(location, marker, kind, instead)


def _lies_in(marker: str, name: str) -> bool:
    """Whether a path below a folder is that of a marker, or of something in it."""
    pattern = re.escape(marker).replace(r"\*", "[^/]*")
    end = "$" if "*" in marker else "/"
    return re.search(f"(^|/){pattern}{end}", name) is not None


def _refuse_formats_above(fs: Any, path: str, location: str) -> None:
    """What was named may be a part of such a table: a file, a partition, a pattern in it."""
    if path.startswith(("http:", "https:")):
        return  # nothing is listed there
    with suppress(*FOREIGN_ERRORS):
        for folder in _folders_up(path):
            for marker, (kind, instead) in _FORMATS.items():
                if _holds(fs, folder, marker):
                    _refuse_format(location, marker, kind, instead)


def _folders_up(path: str) -> Iterator[str]:
    while path.strip("/"):
        yield path.rstrip("/")
        path = posixpath.dirname(path.rstrip("/"))
    yield path


def _holds(fs: Any, folder: str, marker: str) -> bool:
    if has_glob(folder) and not fs.isdir(folder):
        return bool(fs.glob(f"{folder}/{marker}"))
    if not folder.strip("/"):
        return False
    top, _, names = marker.partition("/")
    if not fs.isdir(f"{folder}/{top}"):
        return False
    pattern = re.compile(re.escape(names).replace(r"\*", ".*"))
    listed = fs.ls(f"{folder}/{top}", detail=False) if names else []
    return not names or any(pattern.fullmatch(posixpath.basename(name)) for name in listed)


def _refuse_format(location: str, marker: str, kind: str, instead: str) -> NoReturn:
    reason = f"this is {kind} (`{marker}`), whose log says which rows are alive"
    reason += f": hand over {instead}; nothing was read and nothing was sent"
    raise TableError(location, reason)


# The columns of a prompt table of several files, and each file's part in them.
#
# Writers give equal columns unequal types, leave them empty, or write them into the names of
# folders; here they become one schema. What cannot be one is refused with file and column.


_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class FileSchema:
    """
    One file of a table.

    Args:
        schema: Its own columns that are read.
        columns: Their names where the file has others too; None where it has not.
        keys: What the names of its folders say.
    """

    path: str
    schema: pa.Schema
    columns: Sequence[str] | None
    keys: Mapping[str, str | None]
    n_row_groups: int

    @classmethod
    def read(cls, fs: Any, path: str) -> FileSchema:
        """
        From a file's footer.

        Raises:
            TableError: It cannot be read, or gives one name to two columns.
        """
        with as_table_errors(path, "cannot be read as Parquet"):
            with open_parquet(fs, path) as parquet:
                in_file, n_row_groups = parquet.schema_arrow, parquet.num_row_groups
            schema = own_schema(in_file, path)
            columns = None if len(schema) == len(in_file) else schema.names
            return cls(path, schema, columns, keys_in(path), n_row_groups)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """By name, the types of its columns, in the file or in the names of its folders."""
        of_keys = {name: pa.string() for name in self.keys}
        return {column.name: column.type for column in self.schema} | {
            name: kind for name, kind in of_keys.items() if name not in self.schema.names
        }

    def has_values(self, fs: Any, column: str) -> bool:
        """Whether a column says anything in any row."""
        if column not in self.schema.names:
            return self.keys.get(column) is not None
        with as_table_errors(self.path, f"column {column!r} cannot be read"):
            batches = iter_row_groups(fs, self.path, columns=[column])
            return any(not says_nothing(batch.column(0)) for batch in batches)

    def conformed(self, batch: pa.RecordBatch, schema: pa.Schema, row: int) -> pa.RecordBatch:
        """
        A batch of the file, whose first row is ``row``, as one of the whole table.

        Raises:
            TableError: A value does not fit, or folder and file say different things.
        """
        columns = [self._column(batch, column, row) for column in schema]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _column(self, batch: pa.RecordBatch, wanted: pa.Field, row: int) -> pa.Array:
        name, kind = wanted.name, wanted.type
        try:
            if name not in batch.schema.names:
                key = pa.scalar(self.keys.get(name), pa.string()).cast(kind)
                return pa.repeat(key, batch.num_rows)
            column = batch.column(name)
            if name in self.keys:
                self._require_agreement(column, name, row)
            return converted(column, kind)
        except pa.ArrowException as exc:
            reason = f"does not fit the other files: {reason_of(exc)}"
            raise TableError(self.path, [TableProblem(reason, None, name)]) from exc

    def _require_agreement(self, column: pa.Array, name: str, row: int) -> None:
        key = self.keys[name]
        try:
            value = None if key is None else pa.scalar(key, pa.string()).cast(column.type)
            agrees = pc.is_null(column) if value is None else pc.equal(column, value)
        except (pa.ArrowException, NotImplementedError):
            agrees = pa.array([False] * len(column), pa.bool_())
        bad = pc.indices_nonzero(pc.invert(agrees.fill_null(fill_value=False)))
        if len(bad):
            theirs = column[bad[0].as_py()].as_py()
            reason = f"the file says {theirs!r} and the folder {key!r}: which is right?"
            raise TableError(self.path, [TableProblem(reason, row + bad[0].as_py(), name)])


def own_schema(schema: pa.Schema, path: str) -> pa.Schema:
    """
    The columns of a file or frame that are read, in types that every reader knows.

    An index without a name, which pandas writes as `__index_level_0__`, is no column.

    Raises:
        TableError: One name is given to two columns.
    """
    names = schema.names
    for name in names:
        if names.count(name) > 1:
            raise TableError(path, [TableProblem("this name is given to two columns", column=name)])
    unnamed = _unnamed_indices(schema.metadata)
    kept = (column for column in schema if column.name not in unnamed)
    return pa.schema([pa.field(column.name, kept_type(column.type)) for column in kept])


def common_schema(fs: Any, files: Sequence[FileSchema], *, may_lack: bool = False) -> pa.Schema:
    """
    The columns of all files, each in a type that holds all of its values.

    Files may order them differently; a column that says nothing in a file may have any type there.
    With ``may_lack``, one that a file has not says nothing there.

    Raises:
        TableError: A file lacks a column, or has it in a type that means something else.
    """
    in_folders = {name for file in files for name in file.keys}
    common: dict[str, pa.DataType] = {}
    for file in files:
        types = file.types
        if not may_lack:
            _require_same_names(common or types, file, files[0], in_folders)
        for name, kind in types.items():
            ours = common.get(name, pa.null())
            common[name] = _type_of_both(fs, files, file, name, (ours, kind))
    return pa.schema(list(common.items()))


def _require_same_names(
    common: Iterable[str], file: FileSchema, first: FileSchema, in_folders: set[str]
) -> None:
    for name in [*common, *file.types]:
        if (name in common) != (name in file.types) and name not in in_folders:
            lacking, having = (file, first) if name in common else (first, file)
            reason = f"{_beside(having, lacking)} has this column, {lacking.path} has not"
            raise TableError(file.path, [TableProblem(reason, column=name)])


def _type_of_both(
    fs: Any,
    files: Sequence[FileSchema],
    file: FileSchema,
    name: str,
    kinds: tuple[pa.DataType, pa.DataType],
) -> pa.DataType:
    """The type that a column had in earlier files and that of this one, as one."""
    ours, theirs = kinds
    both = common_type(ours, theirs)
    is_plain = pat.is_floating(ours) == pat.is_floating(theirs) or pat.is_null(ours)
    if both is not None and is_plain:
        return both
    # pandas makes a column without values one of floats, whatever it is in other files.
    if not file.has_values(fs, name):
        return ours
    earlier = [other for other in files[: files.index(file)] if name in other.types]
    speaking = next((other for other in earlier if other.has_values(fs, name)), None)
    if speaking is None:
        return theirs
    if both is not None:
        return both
    reason = f"has type {theirs} here and {ours} in {_beside(speaking, file)}"
    raise TableError(file.path, [TableProblem(reason, column=name)])


def _beside(file: FileSchema, other: FileSchema) -> str:
    """A file's path from the folder that both are in."""
    return file.path.removeprefix(posixpath.commonpath([file.path, other.path])).lstrip("/")


def _unnamed_indices(metadata: Mapping[bytes, bytes] | None) -> set[str]:
    try:
        of_pandas = json.loads((metadata or {}).get(b"pandas", b"{}"))
        indices = of_pandas.get("index_columns", ())
        return {
            name for name in indices if isinstance(name, str) and _UNNAMED_INDEX.fullmatch(name)
        }
    except (ValueError, AttributeError, TypeError):
        return set()


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
        fs, path = open_file_system(location)
        if isinstance(fs, LocalFileSystem) and "://" not in location:
            location = path  # absolute: an error says where it was looked for
        files = find_files(fs, path, location)
        folder = _folder_of(fs, path, location)
    schemas = [FileSchema.read(fs, path) for path in files.paths]
    schema = common_schema(fs, schemas)
    notes = tuple(left_out_note(files.left_out))
    addresses = _addresses_of(fs, path, location)
    return ParquetSource(location, fs, tuple(schemas), schema, folder, addresses, notes)


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
        names = file.schema.names  # the first column that cannot be read alone
        column = next((n for n in names if not _is_readable(fs, file.path, group, n)), None)
        reason = f"row group {group} cannot be read: {reason_of(exc)}"
        raise TableError(file.path, [TableProblem(reason, row, column)]) from exc


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


# What other code hands over as a table, as Arrow: pandas, polars, DuckDB, Hugging Face, Arrow.


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
        from_stream: Callable[[Any], Rows] = pa.RecordBatchReader.from_stream
        return from_stream
    if hasattr(value, "keys"):
        parts = cut(", ".join(map(str, value)))
        raise TableError(name, f"it is a {type(value).__name__} of {parts}; hand one over")
    reason = f"it is a {type(value).__name__}; a DataFrame or an Arrow table is needed"
    raise TableError(name, reason)


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
