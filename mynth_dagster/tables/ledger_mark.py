"""
Which ledger the tables of a batch belong to: `<root>/<batch>/_ledger.json`.

Readers of Parquet leave files alone whose names begin with an underscore.
"""

from __future__ import annotations

import json
import os
import posixpath
import secrets
from dataclasses import asdict, dataclass

from mynth_dagster.errors import TableError
from mynth_dagster.tables.arrow_errors import as_table_errors
from mynth_dagster.tables.files import TASKS, TableStore

MARK_NAME = "_ledger.json"


@dataclass(frozen=True)
class LedgerMark:
    """
    The ledger that wrote the tables last.

    Args:
        number: Its newest running number then; a ledger that knows less is an older copy.
    """

    ledger_id: str
    number: int


def read_mark(store: TableStore) -> LedgerMark | None:
    """
    The mark of a batch, or None where no run left one.

    Raises:
        TableError: It is there and cannot be read.
    """
    path = _path(store)
    with as_table_errors(path, "cannot read which ledger the tables belong to"):
        if not store.fs.isfile(path):
            return None
        content = store.fs.cat_file(path)
    try:
        return LedgerMark(**json.loads(content))
    except (ValueError, TypeError):
        raise TableError(path, "it does not say which ledger the tables belong to") from None


def write_mark(store: TableStore, mark: LedgerMark) -> None:
    """Leave the mark for the next run; a crash leaves the old one."""
    path = _path(store)
    with as_table_errors(path, "cannot write which ledger the tables belong to"):
        write_json(store, path, asdict(mark))


def write_json(store: TableStore, path: str, value: object) -> None:
    """A small file of the root, under a temporary name first."""
    folder, name = posixpath.split(path)
    temporary = posixpath.join(folder, f".{name}.{secrets.token_hex(4)}")
    store.fs.makedirs(folder, exist_ok=True)
    store.fs.pipe_file(temporary, json.dumps(value).encode("ascii"))
    if store.is_local:
        os.replace(temporary, path)  # noqa: PTH105 - paths are fsspec's
    else:
        store.fs.mv(temporary, path)


def has_results(store: TableStore, table: str = TASKS) -> bool:
    """Whether any run ever wrote this table of the batch."""
    with as_table_errors(store.batch_folder, "cannot look for tables"):
        return bool(store.fs.glob(f"{store.batch_folder}/{table}/**/*.parquet"))


def _path(store: TableStore) -> str:
    return posixpath.join(store.batch_folder, MARK_NAME)
