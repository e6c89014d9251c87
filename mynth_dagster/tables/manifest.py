"""
Which ledger the tables of a batch belong to: `<root>/<batch>/_ledger.json`.

Readers of Parquet leave files alone whose names begin with an underscore.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mynth_dagster.clock import us_from_utc
from mynth_dagster.errors import ConfigError, TableError
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Intent, RowKey
from mynth_dagster.models.money import units_from_usd
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables.parquet import as_table_errors
from mynth_dagster.tables.source import PromptSource
from mynth_dagster.tables.store import PROMPTS, TASKS, TableStore, remove_orphans, write_atomically

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
        _write(store, path, asdict(mark))


def _write(store: TableStore, path: str, value: object) -> None:
    """Each run writes both marks anew, and clears away what one that was killed left half-way."""
    write_atomically(store.fs, path, json.dumps(value).encode("ascii"))
    remove_orphans(store.fs, posixpath.dirname(path))


def has_results(store: TableStore, table: str = TASKS) -> bool:
    """Whether any run ever wrote this table of the batch."""
    with as_table_errors(store.batch_folder, "cannot look for tables"):
        return bool(store.fs.glob(f"{store.batch_folder}/{table}/**/*.parquet"))


def _path(store: TableStore) -> str:
    return posixpath.join(store.batch_folder, MARK_NAME)


# What the tables of a batch remember of the ledger that wrote them.


_STATES = {state.value for state in IntentState}
_PROMPT_COLUMNS = ["prompt_id", "request_key", "request_hash", "model", "count"]


@dataclass(frozen=True)
class RememberedPrompt:
    """A good row of a prompt table."""

    prompt_id: str
    request_key: str
    request_hash: str
    model: str
    n_asked: int


def iter_prompts(store: TableStore, slice_: Slice) -> Iterator[RememberedPrompt]:
    """The rows of a partition that may have been asked for."""
    for rows in store.iter_batches(PROMPTS, slice_, columns=_PROMPT_COLUMNS):
        for row in rows.to_pylist():
            if row["request_hash"] is not None:
                yield RememberedPrompt(*(row[name] for name in _PROMPT_COLUMNS))


def iter_intents(store: TableStore, slice_: Slice, ledger_name: str) -> Iterator[Intent]:
    """
    The intents that the `tasks` table of a partition tells of; further tasks are left out.

    One with a task comes as `accepted`: whatever became of the task is read anew, free of charge.
    """
    prompts = {prompt.request_key: prompt for prompt in iter_prompts(store, slice_)}
    seen: set[str] = set()
    for rows in store.iter_batches(TASKS, slice_):
        for row in rows.to_pylist():
            if row["intent_id"] not in seen:
                seen.add(row["intent_id"])
                yield _intent(row, slice_, ledger_name, prompts.get(row["request_key"]))


def _intent(
    row: dict[str, Any], slice_: Slice, ledger_name: str, prompt: RememberedPrompt | None
) -> Intent:
    is_as_asked_now = prompt is not None and row["current"]
    return Intent(
        **remembered(row, slice_, RowKey(ledger_name, slice_.window, row["request_key"])),
        attempt=row["attempt"],
        request_hash=prompt.request_hash if prompt and is_as_asked_now else unknown_hash(row),
        model=row["model"] or (prompt.model if prompt else ""),
        n_asked=prompt.n_asked if prompt else 1,
        quoted_units=_units(row["quoted_usd"]),
        reserved_units=_units(row["reserved_usd"]),
    )


def remembered(row: dict[str, Any], slice_: Slice, key: RowKey) -> dict[str, Any]:
    """What both kinds of tables tell of an intent, in the same columns."""
    submitted_us = us_from_utc(row["submitted_at"]) if row["submitted_at"] else 0
    return {
        "row": key,
        "fan_out": slice_.fan_out,
        "state": _state(row["status"], has_task=row["task_id"] is not None),
        "claimed_at_us": submitted_us,
        "send_by_us": submitted_us,
        "submitted_at_us": submitted_us or None,
        "deadline_at_us": submitted_us or None,
        **{name: row[name] for name in ("intent_id", "prompt_id", "generation", "task_id")},
        **{name: row[name] for name in ("error_code", "error_message")},
    }


def unknown_hash(row: dict[str, Any]) -> str:
    """Of a request that nobody remembers: equal to no row's."""
    return f"lost:{row['intent_id']}"


def _state(status: str, *, has_task: bool) -> IntentState:
    if has_task:
        return IntentState.ACCEPTED
    if status == IntentState.SENDING.value or status not in _STATES:
        return IntentState.UNRESOLVED
    return IntentState(status)


def _units(usd: Any) -> int | None:
    return None if usd is None else units_from_usd(usd)


# From which prompt table each window of a batch was made: `<root>/<batch>/_sources/<window>.json`.
#
# Names of batches are often taken from files, and equal names would replace each other's tables.


FOLDER = "_sources"


def require_same_source(store: TableStore, window: Slice, source: PromptSource) -> None:
    """
    Refuse a table that would replace those of another one by its mere name.

    Raises:
        ConfigError: The window was made from another table.
        TableError: The mark cannot be read.
    """
    path = _mark_path(store, window)
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
    path = _mark_path(store, window)
    with as_table_errors(path, "cannot write what the batch was made from"):
        _write(store, path, _addresses(store, source))


def _mark_path(store: TableStore, window: Slice) -> str:
    return posixpath.join(store.batch_folder, FOLDER, f"{window.path or 'all'}.json")


def _addresses(store: TableStore, source: PromptSource) -> Sequence[str]:
    """All names of a table; one from the root stays when both are moved together."""
    addresses = source.addresses
    if store.is_local and all(map(os.path.isabs, addresses)):
        root = os.path.realpath(posixpath.dirname(store.batch_folder))
        from_root = os.path.relpath(os.path.realpath(addresses[0]), root)
        return [*addresses, from_root]
    return list(addresses)
