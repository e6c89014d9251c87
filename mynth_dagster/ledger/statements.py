"""
The ledger's writes, each for a whole group of members at once.

Every change of state is a compare-and-set whose row count is checked: whoever finds fewer rows
changed than asked looks at the members one by one. Whatever a partition's tables show raises the
partition's version in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.records import intent_to_row, task_to_json
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.task import Task, TaskStatus
from mynth_dagster.models.transitions import Event, IntentState, next_state, states_before

_intents = schema.intents


@dataclass(frozen=True)
class Claim:
    """
    The wish to send an intent now; `intent.state` is `sending`.

    `from_attempt` is None for a new generation, else the attempt that rests and is followed.
    """

    intent: Intent
    account: int | None = None
    from_attempt: int | None = None


@dataclass(frozen=True)
class Sighting:
    """Evidence that a task belongs to an intent; `source` is `answer`, `list`, `webhook`, …"""

    intent: Intent
    task_id: str
    source: str
    seen_at_us: int
    deadline_at_us: int
    reserved_units: int | None = None


class Attachment(str, Enum):
    """
    What a sighting turned out to be.

    `surplus` is a further task of an intent that has one; `foreign` a task that is already
    another intent's, which therefore proves nothing here.
    """

    ATTACHED = "attached"
    KNOWN = "known"
    SURPLUS = "surplus"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Ending:
    """How a delivery ended without a task: given back, rejected, or out of sight."""

    intent: Intent
    event: Event
    ended_at_us: int
    reason: str
    error_code: str | None = None
    error_message: str | None = None
    error_field: str | None = None
    http_status: int | None = None


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


def _is_before(event: Event) -> sa.ColumnElement[bool]:
    """In a state in which this may happen; no IN list, which no group of members could share."""
    return sa.or_(*(_intents.c.state == state.value for state in states_before(event)))


def _apply_claims(connection: Connection, claims: Sequence[Claim]) -> list[bool]:
    new = [claim for claim in claims if claim.from_attempt is None]
    again = [claim for claim in claims if claim.from_attempt is not None]
    won = dict(zip(map(id, new), _insert_claims(connection, new), strict=True))
    won |= zip(map(id, again), _repeat_claims(connection, again), strict=True)
    results = [won[id(claim)] for claim in claims]
    won_ids = [c.intent.intent_id for c, is_won in zip(claims, results, strict=True) if is_won]
    raise_versions_of(connection, won_ids)
    return results


def _insert_claims(connection: Connection, claims: Sequence[Claim]) -> list[bool]:
    rows = [{**intent_to_row(claim.intent), "account": claim.account} for claim in claims]
    return _each_inserted(connection, _intents, "intent_id", rows)


_REPEAT = (
    sa.update(_intents)
    .where(
        _intents.c.intent_id == sa.bindparam("b_intent_id"),
        _intents.c.attempt == sa.bindparam("b_attempt"),
        _is_before(Event.CLAIM),
    )
    .values(
        state=IntentState.SENDING.value,
        attempt=_intents.c.attempt + 1,
        reason=None,
        error_code=None,
        error_message=None,
        error_field=None,
        http_status=None,
        quoted_units=sa.bindparam("b_quoted"),
        account=sa.bindparam("b_account"),
        fan_out=sa.bindparam("b_fan_out"),
        claimed_at_us=sa.bindparam("b_claimed"),
        send_by_us=sa.bindparam("b_send_by"),
    )
)


def _repeat_claims(connection: Connection, claims: Sequence[Claim]) -> list[bool]:
    rows = [
        {
            "b_intent_id": claim.intent.intent_id,
            "b_attempt": claim.from_attempt,
            "b_quoted": claim.intent.quoted_units,
            "b_account": claim.account,
            "b_fan_out": claim.intent.fan_out,
            "b_claimed": claim.intent.claimed_at_us,
            "b_send_by": claim.intent.send_by_us,
        }
        for claim in claims
    ]
    return _each_changed(connection, _REPEAT, rows)


_others = _intents.alias("others")
_ATTACH = (
    sa.update(_intents)
    .where(
        _intents.c.intent_id == sa.bindparam("b_intent_id"),
        _is_before(Event.SIGHT),
        ~sa.exists().where(
            schema.tasks.c.task_id == sa.bindparam("b_task_id"),
            schema.tasks.c.intent_id != sa.bindparam("b_intent_id"),
        ),
        ~sa.exists().where(
            _others.c.task_id == sa.bindparam("b_task_id"),
            _others.c.intent_id != sa.bindparam("b_intent_id"),
        ),
    )
    .values(
        state=IntentState.ACCEPTED.value,
        reason=None,
        error_code=None,
        error_message=None,
        error_field=None,
        http_status=None,
        task_id=sa.bindparam("b_task_id"),
        remote_status=TaskStatus.PENDING.value,
        reserved_units=sa.func.coalesce(
            sa.bindparam("b_reserved", type_=sa.BigInteger), _intents.c.quoted_units
        ),
        submitted_at_us=sa.bindparam("b_at"),
        deadline_at_us=sa.bindparam("b_deadline"),
    )
)


def _apply_sightings(connection: Connection, seen: Sequence[Sighting]) -> list[Attachment]:
    rows = [
        {
            "b_intent_id": sighting.intent.intent_id,
            "b_task_id": sighting.task_id,
            "b_reserved": sighting.reserved_units,
            "b_at": sighting.seen_at_us,
            "b_deadline": sighting.deadline_at_us,
        }
        for sighting in seen
    ]
    attached = _each_changed(connection, _ATTACH, rows)
    results = [
        Attachment.ATTACHED if was_attached else _unattached(connection, sighting)
        for sighting, was_attached in zip(seen, attached, strict=True)
    ]
    news = _record_tasks(connection, seen, results)
    _record_evidence(connection, seen)
    raise_versions_of(connection, [sighting.intent.intent_id for sighting in news])
    return results


def _unattached(connection: Connection, sighting: Sighting) -> Attachment:
    """What a task is that did not become the intent's first one."""
    task_id, intent_id = sighting.task_id, sighting.intent.intent_id
    owner = sa.select(schema.tasks.c.intent_id).where(schema.tasks.c.task_id == task_id)
    attached_to = sa.select(_intents.c.intent_id).where(_intents.c.task_id == task_id)
    owners = {*connection.execute(owner).scalars(), *connection.execute(attached_to).scalars()}
    if owners - {intent_id}:
        return Attachment.FOREIGN
    query = sa.select(_intents.c.task_id).where(_intents.c.intent_id == intent_id)
    return Attachment.KNOWN if connection.execute(query).scalar() == task_id else Attachment.SURPLUS


def _record_tasks(
    connection: Connection, seen: Sequence[Sighting], results: Sequence[Attachment]
) -> list[Sighting]:
    """Keep the tasks; the sightings that told of one we did not have."""
    own = [
        (sighting, result)
        for sighting, result in zip(seen, results, strict=True)
        if result in (Attachment.ATTACHED, Attachment.SURPLUS)
    ]
    rows = [
        {
            "task_id": sighting.task_id,
            "intent_id": sighting.intent.intent_id,
            "is_surplus": result is Attachment.SURPLUS,
        }
        for sighting, result in own
    ]
    is_new = _each_inserted(connection, schema.tasks, "task_id", rows)
    return [
        sighting
        for (sighting, result), new in zip(own, is_new, strict=True)
        if new or result is Attachment.ATTACHED
    ]


def _record_evidence(connection: Connection, seen: Sequence[Sighting]) -> None:
    rows = [
        {
            "task_id": sighting.task_id,
            "intent_id": sighting.intent.intent_id,
            "source": sighting.source,
            "attempt": sighting.intent.attempt,
            "seen_at_us": sighting.seen_at_us,
        }
        for sighting in seen
    ]
    connection.execute(insert_into(connection, schema.sightings).on_conflict_do_nothing(), rows)


_END = (
    sa.update(_intents)
    .where(
        _intents.c.intent_id == sa.bindparam("b_intent_id"),
        _intents.c.attempt == sa.bindparam("b_attempt"),
        _intents.c.state == IntentState.SENDING.value,
    )
    .values(
        state=sa.bindparam("b_state"),
        reason=sa.bindparam("b_reason"),
        error_code=sa.bindparam("b_code"),
        error_message=sa.bindparam("b_message"),
        error_field=sa.bindparam("b_field"),
        http_status=sa.bindparam("b_status"),
    )
)


def _apply_endings(connection: Connection, endings: Sequence[Ending]) -> list[bool]:
    rows = [_ending_row(ending) for ending in endings]
    results = _each_changed(connection, _END, rows)
    evidence = [_attempt_row(ending) for ending in endings]
    connection.execute(insert_into(connection, schema.attempts).on_conflict_do_nothing(), evidence)
    changed = [e.intent.intent_id for e, done in zip(endings, results, strict=True) if done]
    raise_versions_of(connection, changed)
    return results


def _ending_row(ending: Ending) -> dict[str, Any]:
    intent = ending.intent
    state = next_state(IntentState.SENDING, ending.event, key=intent.intent_id)
    return {
        "b_intent_id": intent.intent_id,
        "b_attempt": intent.attempt,
        "b_state": state.value,
        "b_reason": ending.reason,
        "b_code": ending.error_code,
        "b_message": ending.error_message,
        "b_field": ending.error_field,
        "b_status": ending.http_status,
    }


def _attempt_row(ending: Ending) -> dict[str, Any]:
    return {
        "intent_id": ending.intent.intent_id,
        "attempt": ending.intent.attempt,
        "outcome": ending.reason,
        "http_status": ending.http_status,
        "detail": ending.error_message,
        "ended_at_us": ending.ended_at_us,
    }


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
    .values(details=sa.bindparam("b_details"), read_at_us=sa.bindparam("b_read_at"))
)


def _apply_readings(connection: Connection, readings: Sequence[Reading]) -> list[bool]:
    results = _each_changed(connection, _FINISH, [_finish_row(reading) for reading in readings])
    details = [
        {
            "b_task_id": reading.task.task_id,
            "b_details": task_to_json(reading.task),
            "b_read_at": reading.read_at_us,
        }
        for reading in readings
    ]
    stored = _each_changed(connection, _STORE_DETAILS, details)
    news = [
        reading.intent.intent_id
        for reading, finished, is_new in zip(readings, results, stored, strict=True)
        if finished or is_new
    ]
    raise_versions_of(connection, news)
    return results


def _finish_row(reading: Reading) -> dict[str, Any]:
    task = reading.task
    state = next_state(IntentState.ACCEPTED, reading.event, key=reading.intent.intent_id)
    fault = task.faults[0] if task.faults else None
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


_RAISE = (
    sa.update(schema.partitions)
    .where(
        schema.partitions.c.batch == sa.bindparam("b_batch"),
        schema.partitions.c.window == sa.bindparam("b_window"),
        schema.partitions.c.fan_out == sa.bindparam("b_fan_out"),
    )
    .values(version=schema.partitions.c.version + 1)
)


def raise_versions_of(connection: Connection, intent_ids: Sequence[str]) -> None:
    """The partitions where these intents are now have something new to show."""
    if intent_ids:
        place = (_intents.c.batch, _intents.c.window, _intents.c.fan_out)
        query = sa.select(*place).where(_intents.c.intent_id.in_(intent_ids)).distinct()
        rows = [
            {"b_batch": batch, "b_window": window, "b_fan_out": fan_out}
            for batch, window, fan_out in connection.execute(query)
        ]
        connection.execute(_RAISE, sorted(rows, key=str))


def _each_changed(
    connection: Connection, statement: sa.Executable, rows: Sequence[dict[str, Any]]
) -> list[bool]:
    """Whether each member changed its one row; the whole group at once where all did."""
    if not rows:
        return []
    if len(rows) == 1:
        return [connection.execute(statement, rows[0]).rowcount == 1]
    savepoint = connection.begin_nested()
    if connection.execute(statement, rows).rowcount == len(rows):
        savepoint.commit()
        return [True] * len(rows)
    savepoint.rollback()
    return [connection.execute(statement, row).rowcount == 1 for row in rows]


def _each_inserted(
    connection: Connection, table: sa.Table, key: str, rows: Sequence[dict[str, Any]]
) -> list[bool]:
    """
    Whether each member became a row of its own.

    Postgres tells no row count of an insert; the rows that come back say who won.
    """
    if not rows:
        return []
    statement = insert_into(connection, table).on_conflict_do_nothing().returning(table.c[key])
    inserted = set(connection.execute(statement, rows).scalars())
    is_new = []
    for row in rows:
        is_new.append(row[key] in inserted)
        inserted.discard(row[key])
    return is_new


def insert_into(connection: Connection, table: sa.Table) -> Any:
    """The dialect's insert, which alone knows ON CONFLICT."""
    inserts: dict[str, Callable[[sa.Table], Any]] = {
        "sqlite": sqlite.insert,
        "postgresql": postgresql.insert,
    }
    return inserts[connection.dialect.name](table)


SIGHT = Write("sight", 0, _apply_sightings)
READ = Write("read", 1, _apply_readings)
END = Write("end", 2, _apply_endings)
NOTE = Write("note", 3, _apply_notes)
CLAIM = Write("claim", 4, _apply_claims)


def _apply_calls(connection: Connection, calls: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    return [call(connection) for call in calls]


CALL = Write("call", 5, _apply_calls)
"""Rare writes, each a function of the connection."""
