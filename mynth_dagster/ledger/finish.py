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
from mynth_dagster.ledger.counters import look_at, note_difference
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.grouped import each_changed
from mynth_dagster.ledger.records import task_to_json
from mynth_dagster.models.exposure import Exposure, exposure_of_surplus
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.task import Task, TaskStatus
from mynth_dagster.models.transitions import Event, IntentState, next_state

_intents = schema.intents


@dataclass(frozen=True)
class StatusNote:
    """What Mynth says of a task, without having read it."""

    task_id: str
    status: TaskStatus


@dataclass(frozen=True)
class Reading:
    """A finished task as read; `event` is what it means for its intent."""

    intent: Intent
    task: Task
    event: Event
    read_at_us: int


_NOTE = (
    sa.update(_intents)
    .where(
        _intents.c.task_id == sa.bindparam("b_task_id"),
        _intents.c.state == IntentState.ACCEPTED.value,
        sa.func.coalesce(_intents.c.remote_status, "") != sa.bindparam("b_status"),
    )
    .values(remote_status=sa.bindparam("b_status"))
)


def _apply_notes(connection: Connection, notes: Sequence[StatusNote]) -> list[None]:
    rows = [{"b_task_id": note.task_id, "b_status": note.status.value} for note in notes]
    connection.execute(_NOTE, rows)
    return [None] * len(notes)


_FINISH = (
    sa.update(_intents)
    .where(
        _intents.c.task_id == sa.bindparam("b_task_id"),
        _intents.c.state == IntentState.ACCEPTED.value,
    )
    .values(
        state=sa.bindparam("b_state"),
        remote_status=sa.bindparam("b_status"),
        charged_units=sa.bindparam("b_charged"),
        completed_at_us=sa.bindparam("b_completed"),
        error_code=sa.bindparam("b_code"),
        error_message=sa.bindparam("b_message"),
    )
)
_STORE_DETAILS = (
    sa.update(schema.tasks)
    .where(schema.tasks.c.task_id == sa.bindparam("b_task_id"), schema.tasks.c.details.is_(None))
    .values(
        details=sa.bindparam("b_details"),
        charged_units=sa.bindparam("b_charged"),
        read_at_us=sa.bindparam("b_read_at"),
    )
)


def _apply_readings(connection: Connection, readings: Sequence[Reading]) -> list[bool]:
    before = look_at(connection, [reading.intent.intent_id for reading in readings])
    results = each_changed(connection, _FINISH, [_finish_row(reading) for reading in readings])
    details = [
        {
            "b_task_id": reading.task.task_id,
            "b_details": task_to_json(reading.task),
            "b_charged": _charged_units(reading.task),
            "b_read_at": reading.read_at_us,
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
    changed = [reading.intent.intent_id for reading in news]
    note_difference(connection, before, changed, surplus)
    return results


def _of_surplus(connection: Connection, task_ids: Sequence[str]) -> list[tuple[str, Exposure]]:
    """What the reading of further tasks changes in their intents' exposure."""
    tasks = schema.tasks
    query = sa.select(tasks.c.intent_id, tasks.c.reserved_units, tasks.c.charged_units).where(
        tasks.c.task_id.in_(task_ids), tasks.c.is_surplus
    )
    return [
        (intent_id, exposure_of_surplus(held, charged) - exposure_of_surplus(held, None))
        for intent_id, held, charged in connection.execute(query)
    ]


def _finish_row(reading: Reading) -> dict[str, Any]:
    task = reading.task
    state = next_state(IntentState.ACCEPTED, reading.event, key=reading.intent.intent_id)
    fault = task.first_fault if state is IntentState.FAILED else None
    return {
        "b_task_id": task.task_id,
        "b_state": state.value,
        "b_status": task.status.value,
        "b_charged": _charged_units(task),
        "b_completed": task.updated_at_us,
        "b_code": fault.code if fault else None,
        "b_message": fault.message if fault else None,
    }


def _charged_units(task: Task) -> int | None:
    """A failed task costs nothing and says so by giving no cost; else none means unknown."""
    if task.cost_units is None and task.status is TaskStatus.FAILED:
        return 0
    return task.cost_units


READ = Write("read", 1, _apply_readings)
NOTE = Write("note", 3, _apply_notes)
