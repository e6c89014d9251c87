"""
Finished tasks: what Mynth says of a task, and the task once it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import exposure_before, note_difference
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.grouped import each_changed
from mynth_dagster.ledger.records import task_to_json
from mynth_dagster.ledger.statements import Cells, Change, Insertion, Lookup, Names
from mynth_dagster.models.money import Exposure, exposure_of_surplus
from mynth_dagster.models.task import Task, TaskStatus
from mynth_dagster.models.transitions import Event, IntentState, next_state

_intents = schema.intents
_tasks = schema.tasks


@dataclass(frozen=True)
class StatusNote:
    """What Mynth says of a task, without having read it."""

    task_id: str
    status: TaskStatus


@dataclass(frozen=True)
class Reading:
    """A finished task as read; `event` is what it means for its intent."""

    intent_id: str
    task: Task
    event: Event
    read_at_us: int


def _note(cells: Cells) -> sa.Update:
    conditions = (
        _intents.c.task_id == cells("task_id"),
        _intents.c.state == IntentState.ACCEPTED.value,
        sa.func.coalesce(_intents.c.remote_status, "") != cells("status"),
    )
    return sa.update(_intents).where(*conditions).values(remote_status=cells("status"))


_NOTE = Change(
    _note,
    {"task_id": _intents.c.task_id, "status": _intents.c.remote_status},
    distinct=["task_id"],
)


def _apply_notes(connection: Connection, notes: Sequence[StatusNote]) -> list[None]:
    newest = {note.task_id: note.status.value for note in notes}
    rows = [{"task_id": task_id, "status": status} for task_id, status in newest.items()]
    _NOTE.run(connection, rows)
    return [None] * len(notes)


def _finish(cells: Cells) -> sa.Update:
    is_waiting = _intents.c.state == IntentState.ACCEPTED.value
    values = {name: cells(name) for name in _OUTCOME}
    return (
        sa.update(_intents).where(_intents.c.task_id == cells("task_id"), is_waiting).values(values)
    )


_OUTCOME = (
    *("state", "remote_status", "charged_units"),
    *("completed_at_us", "error_code", "error_message"),
)
_FINISH = Change(
    _finish, {name: _intents.c[name] for name in ("task_id", *_OUTCOME)}, distinct=["task_id"]
)


_STORE_DETAILS = Insertion(
    _tasks,
    ["task_id", "intent_id", "is_surplus", "details", "charged_units", "read_at_us"],
    key="task_id",
    fills=["details", "charged_units", "read_at_us"],
)


def _apply_readings(connection: Connection, readings: Sequence[Reading]) -> list[bool]:
    intent_ids = {reading.intent_id for reading in readings}
    before = exposure_before(connection, intent_ids)
    results = each_changed(connection, _FINISH, [_finish_row(reading) for reading in readings])
    details = [
        {
            "task_id": reading.task.task_id,
            "intent_id": reading.intent_id,
            "is_surplus": False,  # a further task was kept as one when it was seen
            "details": task_to_json(reading.task),
            "charged_units": _charged_units(reading.task),
            "read_at_us": reading.read_at_us,
        }
        for reading in readings
    ]
    stored = each_changed(connection, _STORE_DETAILS, details)
    news = [
        reading
        for reading, finished, is_new in zip(readings, results, stored, strict=True)
        if finished or is_new
    ]
    surplus = _of_surplus(connection, [reading.task.task_id for reading in news])
    changed = {reading.intent_id for reading in news}
    note_difference(connection, before, intent_ids, changed, surplus)
    return results


def _surplus(names: Names) -> sa.Select[Any]:
    columns = (_tasks.c.intent_id, _tasks.c.reserved_units, _tasks.c.charged_units)
    return sa.select(*columns).where(names.among(_tasks.c.task_id), _tasks.c.is_surplus)


_SURPLUS = Lookup(_surplus)


def _of_surplus(connection: Connection, task_ids: Sequence[str]) -> list[tuple[str, Exposure]]:
    """What the reading of further tasks changes in their intents' exposure."""
    return [
        (intent_id, exposure_of_surplus(held, charged) - exposure_of_surplus(held, None))
        for intent_id, held, charged in _SURPLUS.rows(connection, task_ids)
    ]


def _finish_row(reading: Reading) -> dict[str, Any]:
    task = reading.task
    state = next_state(IntentState.ACCEPTED, reading.event, key=reading.intent_id)
    fault = task.first_fault if state is IntentState.FAILED else None
    return {
        "task_id": task.task_id,
        "state": state.value,
        "remote_status": task.status.value,
        "charged_units": _charged_units(task),
        "completed_at_us": task.updated_at_us,
        "error_code": fault.code if fault else None,
        "error_message": fault.message if fault else None,
    }


def _charged_units(task: Task) -> int | None:
    """A failed task costs nothing and says so by giving no cost; else none means unknown."""
    if task.cost_units is None and task.status is TaskStatus.FAILED:
        return 0
    return task.cost_units


READ = Write("read", 1, _apply_readings)
NOTE = Write("note", 3, _apply_notes)
