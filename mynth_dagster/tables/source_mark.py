"""
From which prompt table each window of a batch was made: `<root>/<batch>/_sources/<window>.json`.

Names of batches are often taken from files, and equal names would replace each other's tables.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Sequence

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.batch import Slice
from mynth_dagster.tables.arrow_errors import as_table_errors
from mynth_dagster.tables.files import TableStore
from mynth_dagster.tables.ledger_mark import write_json
from mynth_dagster.tables.source import PromptSource

FOLDER = "_sources"


def require_same_source(store: TableStore, window: Slice, source: PromptSource) -> None:
    """
    Refuse a table that would replace those of another one by its mere name.

    Raises:
        ConfigError: The window was made from another table.
        TableError: The mark cannot be read.
    """
    path = _path(store, window)
    with as_table_errors(path, "cannot read what the batch was made from"):
        known = json.loads(store.fs.cat_file(path)) if store.fs.isfile(path) else None
    if not isinstance(known, list) or set(known) & set(_addresses(store, source)):
        return
    name = store.batch_name
    raise ConfigError(
        "batch",
        f"{name!r} was made from {known[0]}, and this is {source.addresses[0]}. Nothing was sent. "
        f"Give this one another name (--batch NAME). If it is the same batch and its table was "
        f"moved, say --batch {name}, or remove {path}.",
    )


def write_source_mark(store: TableStore, window: Slice, source: PromptSource) -> None:
    """Say beside the tables what they are made from."""
    path = _path(store, window)
    with as_table_errors(path, "cannot write what the batch was made from"):
        write_json(store, path, _addresses(store, source))


def _path(store: TableStore, window: Slice) -> str:
    return posixpath.join(store.batch_folder, FOLDER, f"{window.path or 'all'}.json")


def _addresses(store: TableStore, source: PromptSource) -> Sequence[str]:
    """All names of a table; one from the root stays when both are moved together."""
    addresses = source.addresses
    if store.is_local and all(map(os.path.isabs, addresses)):
        root = os.path.realpath(posixpath.dirname(store.batch_folder))
        from_root = os.path.relpath(os.path.realpath(addresses[0]), root)
        return [*addresses, from_root]
    return list(addresses)
