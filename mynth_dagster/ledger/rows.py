"""Conversion of the ledger's rows to values and back, and conditions of several statements."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from mynth_dagster.ledger import schema
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Intent, RowKey
from mynth_dagster.models.task import Fault, ImageOutcome, Task, TaskStatus
from mynth_dagster.models.transitions import Event, IntentState, states_before

_intents, _partitions = schema.intents, schema.partitions


_PLAIN = tuple(
    field.name for field in fields(Intent) if field.name not in ("row", "state", "remote_status")
)


def intent_to_row(intent: Intent) -> dict[str, Any]:
    """Convert an intent to a row of `schema.intents`, without what only the ledger knows."""
    row = {name: getattr(intent, name) for name in _PLAIN}
    row["batch"] = intent.row.batch
    row["window"] = intent.row.window
    row["request_key"] = intent.row.request_key
    row["state"] = intent.state.value
    row["remote_status"] = intent.remote_status.value if intent.remote_status else None
    return row


def intent_from_row(row: Mapping[Any, Any]) -> Intent:
    """Make an intent from a row of `schema.intents`."""
    status = row["remote_status"]
    return Intent(
        row=RowKey(row["batch"], row["window"], row["request_key"]),
        state=IntentState(row["state"]),
        remote_status=TaskStatus(status) if status else None,
        **{name: row[name] for name in _PLAIN},
    )


def task_to_json(task: Task) -> str:
    """Encode a finished task for `schema.tasks.details`."""
    # Not `asdict`, which copies every value in depth: this is done for every task.
    stored = {
        **{name: cell for name, cell in vars(task).items() if name != "prompt_asked"},
        "faults": [vars(fault) for fault in task.faults],
        "images": [_stored(image) for image in task.images],
    }
    return json.dumps(stored, ensure_ascii=False, separators=(",", ":"))


def _stored(image: ImageOutcome) -> dict[str, Any]:
    return {**vars(image), "fault": vars(image.fault) if image.fault else None}


def task_from_json(text: str) -> Task:
    """The inverse of `task_to_json`."""
    stored = json.loads(text)
    stored["status"] = TaskStatus(stored["status"])
    stored["faults"] = tuple(Fault(**fault) for fault in stored["faults"])
    stored["images"] = tuple(_image(image) for image in stored["images"])
    return Task(**stored)


def _image(stored: dict[str, Any]) -> ImageOutcome:
    fault = stored.pop("fault")
    return ImageOutcome(**stored, fault=Fault(**fault) if fault else None)


def constant(value: IntentState | TaskStatus) -> sa.ColumnElement[str]:
    """
    A value as a literal of the statement itself.

    A bound value costs time for each row of a statement that is run for many.
    """
    return sa.literal_column(f"'{value.value}'", sa.Text)


def is_before(event: Event) -> sa.ColumnElement[bool]:
    """The condition that an intent is in a state in which this event may happen."""
    return _intents.c.state.in_([constant(state) for state in states_before(event)])


UPDATE_PLACE = sa.update(_partitions).where(
    _partitions.c.batch == sa.bindparam("of_batch"),
    _partitions.c.window == sa.bindparam("of_window"),
    _partitions.c.fan_out == sa.bindparam("of_fan_out"),
)
"""An update of partitions, one for each row of `place_row`."""


def place_row(batch: str, window: str, fan_out: str) -> dict[str, Any]:
    """Return the parameters by which `UPDATE_PLACE` finds its partition."""
    return {"of_batch": batch, "of_window": window, "of_fan_out": fan_out}


def is_partition(batch: str, slice_: Slice) -> sa.ColumnElement[bool]:
    """The condition that a row of `partitions` is that of this partition."""
    return sa.and_(
        _partitions.c.batch == batch,
        _partitions.c.window == slice_.window,
        _partitions.c.fan_out == slice_.fan_out,
    )


def of_accounts(accounts: Collection[int] | None) -> sa.ColumnElement[bool]:
    """The condition that one of these accounts, or an unknown one, sent an intent; None: any."""
    if accounts is None:
        return sa.true()
    return sa.or_(_intents.c.account.is_(None), _intents.c.account.in_(sorted(accounts)))


def in_slices(slices: Iterable[Slice] | None, table: sa.Table = _intents) -> sa.ColumnElement[bool]:
    """The condition that a row's place, by default an intent's, is in these slices; None: any."""
    if slices is None:
        return sa.true()
    places = sorted({(slice_.window, slice_.fan_out) for slice_ in slices})
    windows, fan_outs = ({place[n] for place in places} for n in range(2))
    is_one = sa.tuple_(table.c.window, table.c.fan_out).in_(places)
    # SQLite looks for pairs in every row; for single columns it goes by the index.
    near = table.c.window.in_(sorted(windows)), table.c.fan_out.in_(sorted(fan_outs))
    return sa.and_(*near, is_one)
