"""
The columns of a prompt table of several files, and each file's part in them.

Writers give equal columns unequal types, leave them empty, or write them into the names of folders;
here they become one schema. What cannot be one is refused with file and column.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pat

from mynth_dagster.errors import TableError, TableProblem
from mynth_dagster.tables.arrow_errors import as_table_errors, reason_of
from mynth_dagster.tables.arrow_types import common_type, converted, kept_type, says_nothing
from mynth_dagster.tables.folders import keys_in
from mynth_dagster.tables.parquet import iter_row_groups, open_parquet

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
                found, n_row_groups = parquet.schema_arrow, parquet.num_row_groups
            schema = own_schema(found, path)
            columns = None if len(schema) == len(found) else schema.names
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
            said = None if key is None else pa.scalar(key, pa.string()).cast(column.type)
            agrees = pc.is_null(column) if said is None else pc.equal(column, said)
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
        told = json.loads((metadata or {}).get(b"pandas", b"{}"))
        indices = told.get("index_columns", ())
        return {
            name for name in indices if isinstance(name, str) and _UNNAMED_INDEX.fullmatch(name)
        }
    except (ValueError, AttributeError, TypeError):
        return set()
