"""Evidence: a task id that belongs to an intent is kept, whatever the state and however late."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Changes, apply_changes, exposure_before, note_difference
from mynth_dagster.ledger.database import instant_of, newest_seq, next_seq
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.journal import JournalEntry
from mynth_dagster.ledger.statements import (
    INTENT_COLUMNS,
    Cells,
    Change,
    Insertion,
    Lookup,
    Names,
    Row,
    all_changed,
    each_changed,
    insert_into,
    intent_to_row,
    is_before,
    task_to_json,
)
from mynth_dagster.limits import LOST_AFTER_MISSES, LOST_AFTER_S
from mynth_dagster.models.intent import TOO_EARLY, Intent, UnresolvedIntent, Walk
from mynth_dagster.models.money import Exposure, exposure_of, exposure_of_surplus
from mynth_dagster.models.task import Task, TaskStatus
from mynth_dagster.models.transitions import Event, IntentState, next_state, states_before

# Statements that give an intent its task: of a row that nobody has to look at, and of any other.


_intents = schema.intents
_others = _intents.alias("others")


def _attach(cells: Cells) -> sa.Update:
    """An intent without a task gets this one, unless the task is another's."""
    task_id, intent_id = cells("task_id"), cells("intent_id")
    is_known = sa.select(1).where(
        schema.tasks.c.task_id == task_id, schema.tasks.c.intent_id != intent_id
    )
    is_attached = sa.select(1).where(_others.c.task_id == task_id, _others.c.intent_id != intent_id)
    conditions = (
        _intents.c.intent_id == intent_id,
        is_before(Event.SIGHT),
        ~sa.exists(is_known.correlate_except(schema.tasks)),
        ~sa.exists(is_attached.correlate_except(_others)),
    )
    return (
        sa.update(_intents)
        .where(*conditions)
        .values(
            state=IntentState.ACCEPTED.value,
            reason=None,
            error_code=None,
            error_message=None,
            error_field=None,
            http_status=None,
            task_id=task_id,
            remote_status=TaskStatus.PENDING.value,
            reserved_units=sa.func.coalesce(cells("reserved"), _intents.c.quoted_units),
            submitted_at_us=cells("at"),
            deadline_at_us=cells("deadline"),
            missed=0,
            missing_since=None,
            unresolved_seq=None,
            unresolved_since=None,
            held_because=None,
            accepted_seq=cells("number"),
        )
    )


def _attach_sending(cells: Cells) -> sa.Update:
    """The same, of a row that is being sent as its sender knows it."""
    return _attach(cells).where(
        _intents.c.state == IntentState.SENDING.value,
        _intents.c.attempt == cells("attempt"),
        _intents.c.fan_out == cells("fan_out"),
        _intents.c.reserved_units.is_(None),
    )


_ATTACHED = {
    "intent_id": _intents.c.intent_id,
    "task_id": _intents.c.task_id,
    "reserved": _intents.c.reserved_units,
    "at": _intents.c.submitted_at_us,
    "deadline": _intents.c.deadline_at_us,
    "number": _intents.c.accepted_seq,
}
ATTACH = Change(_attach, _ATTACHED, distinct=["intent_id", "task_id"])
ATTACH_SENDING = Change(
    _attach_sending,
    {**_ATTACHED, "attempt": _intents.c.attempt, "fan_out": _intents.c.fan_out},
    distinct=["intent_id", "task_id"],
)


def _learn_hold(cells: Cells) -> sa.Update:
    conditions = (
        _intents.c.intent_id == cells("intent_id"),
        _intents.c.task_id == cells("task_id"),
        sa.func.coalesce(_intents.c.reserved_units, -1) != cells("reserved"),
    )
    return sa.update(_intents).where(*conditions).values(reserved_units=cells("reserved"))


LEARN_HOLD = Change(
    _learn_hold,
    {
        "intent_id": _intents.c.intent_id,
        "task_id": _intents.c.task_id,
        "reserved": _intents.c.reserved_units,
    },
    distinct=["intent_id"],
)


ANSWER = "answer"
"""The source of a sighting that is the answer to the row's own request."""


@dataclass(frozen=True)
class Sighting:
    """Evidence that a task belongs to an intent; `source` is `answer`, `list`, `webhook`, …"""

    intent: Intent
    task_id: str
    source: str
    seen_at_us: int
    deadline_at_us: int
    reserved_units: int | None = None

    @classmethod
    def at(
        cls,
        now_us: int,
        intent: Intent,
        task_id: str,
        source: str,
        *,
        deadline_s: float,
        reserved_units: int | None = None,
    ) -> Sighting:
        """Seen now; the task has this many seconds before it is called stalled."""
        deadline_at_us = now_us + round(deadline_s * US_PER_S)
        return cls(intent, task_id, source, now_us, deadline_at_us, reserved_units)


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


_KEEP_SURPLUS = Insertion(
    schema.tasks, ["task_id", "intent_id", "is_surplus", "reserved_units"], key="task_id"
)
_KEEP_EVIDENCE = Insertion(
    schema.observations, ["task_id", "intent_id", "source", "attempt", "seen_at_us"], key="task_id"
)


def _apply_sightings(connection: Connection, seen: Sequence[Sighting]) -> list[Attachment]:
    number = newest_seq(connection)
    rows = [{**_attached_row(sighting), "number": number} for sighting in seen]
    if all(x.source == ANSWER for x in seen) and all_changed(connection, ATTACH_SENDING, rows):
        # As nearly always. What such rows hold is what was quoted; nobody has to add it up.
        more = ((x.intent, (_held_units(x) or 0) - (x.intent.quoted_units or 0)) for x in seen)
        apply_changes(connection, Changes.of_reserved(more))
        results = [Attachment.ATTACHED] * len(seen)
    else:
        results = _sort_out(connection, seen, rows)
    _record_evidence(connection, seen)
    return results


def _attached_row(sighting: Sighting) -> dict[str, Any]:
    return {
        "intent_id": sighting.intent.intent_id,
        "task_id": sighting.task_id,
        "reserved": sighting.reserved_units,
        "at": sighting.seen_at_us,
        "deadline": sighting.deadline_at_us,
        "attempt": sighting.intent.attempt,
        "fan_out": sighting.intent.fan_out,
    }


def _sort_out(
    connection: Connection, seen: Sequence[Sighting], rows: Sequence[Row]
) -> list[Attachment]:
    """Whatever these sightings are, one by one."""
    intent_ids = {sighting.intent.intent_id for sighting in seen}
    before = exposure_before(connection, intent_ids)
    attached = each_changed(connection, ATTACH, rows)
    results = [
        Attachment.ATTACHED if was_attached else _unattached(connection, sighting)
        for sighting, was_attached in zip(seen, attached, strict=True)
    ]
    new_surplus = _record_surplus(connection, seen, results)
    surplus = [
        (sighting.intent.intent_id, exposure_of_surplus(_held_units(sighting), None))
        for sighting in new_surplus
    ]
    changed = {sighting.intent.intent_id for sighting in new_surplus}
    changed |= {
        sighting.intent.intent_id
        for sighting, result in zip(seen, results, strict=True)
        if result is Attachment.ATTACHED
    }
    changed |= _learn_holds(connection, seen, results)
    note_difference(connection, before, intent_ids, changed, surplus)
    return results


def _learn_holds(
    connection: Connection, seen: Sequence[Sighting], results: Sequence[Attachment]
) -> set[str]:
    """An answer that comes after a webhook attached its task still tells what is held."""
    late = [
        sighting
        for sighting, result in zip(seen, results, strict=True)
        if result is Attachment.KNOWN and sighting.reserved_units is not None
    ]
    rows = [_attached_row(sighting) for sighting in late]
    learned = each_changed(connection, LEARN_HOLD, rows)
    return {x.intent.intent_id for x, is_new in zip(late, learned, strict=True) if is_new}


def _held_units(sighting: Sighting) -> int | None:
    """What Mynth holds for the task: as it said, else as it was expected."""
    if sighting.reserved_units is not None:
        return sighting.reserved_units
    return sighting.intent.quoted_units


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


def _record_surplus(
    connection: Connection, seen: Sequence[Sighting], results: Sequence[Attachment]
) -> list[Sighting]:
    """Keep further tasks, and return the sightings of those that we did not have."""
    surplus = [
        sighting
        for sighting, result in zip(seen, results, strict=True)
        if result is Attachment.SURPLUS
    ]
    rows = [
        {
            "task_id": sighting.task_id,
            "intent_id": sighting.intent.intent_id,
            "is_surplus": True,
            "reserved_units": _held_units(sighting),
        }
        for sighting in surplus
    ]
    is_new = each_changed(connection, _KEEP_SURPLUS, rows)
    return [sighting for sighting, new in zip(surplus, is_new, strict=True) if new]


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
    _KEEP_EVIDENCE.run(connection, rows)


def _spooled(sighting: Sighting) -> JournalEntry:
    return JournalEntry(
        intent_id=sighting.intent.intent_id,
        attempt=sighting.intent.attempt,
        task_id=sighting.task_id,
        reserved_units=sighting.reserved_units,
        seen_at_us=sighting.seen_at_us,
        deadline_at_us=sighting.deadline_at_us,
    )


def _is_sighting_kept(connection: Connection, sighting: Sighting, _: Attachment) -> bool:
    table = schema.observations
    query = sa.select(table.c.task_id).where(
        table.c.task_id == sighting.task_id, table.c.intent_id == sighting.intent.intent_id
    )
    return connection.execute(query).first() is not None


SIGHT = Write("sight", 0, _apply_sightings, _spooled, _is_sighting_kept)


# Finished tasks: what Mynth says of a task, and the task once it is read.


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


# Settling what is in doubt: walks over the task list, rows cleared, tasks lost, rows given up.


WALKS_KEPT = 100


@dataclass(frozen=True)
class Missing:
    """What reading an accepted task by its id said: that there is none, or that it is there."""

    intent_id: str
    is_missing: bool


def database_now(ours: Instant) -> Callable[[Connection], Instant]:
    """Now, on the clock that this ledger's waits are measured with."""
    return lambda connection: instant_of(connection, ours)


def expire_sending(
    batch: str, window: str, grace_us: int, ours: Instant
) -> Callable[[Connection], int]:
    """Rows left `sending` by a process that is gone become `unresolved`; returns how many."""

    def call(connection: Connection) -> int:
        now = instant_of(connection, ours)
        interrupted = sa.select(_intents.c.intent_id).where(
            _intents.c.batch == batch,
            _intents.c.window == window,
            _intents.c.state == IntentState.SENDING.value,
            _intents.c.send_by_us < now.wall_us - grace_us,
        )
        ids = list(connection.execute(interrupted).scalars())
        if not ids:
            return 0
        values = {
            "state": IntentState.UNRESOLVED.value,
            "reason": "interrupted",
            "unresolved_seq": next_seq(connection),
            "unresolved_since": str(now),
        }
        return len(_move(connection, ids, [IntentState.SENDING], values))

    return call


def record_walk(walk: Walk) -> Callable[[Connection], None]:
    """Keep a complete walk; only the newest ones of an account are of use."""

    def call(connection: Connection) -> None:
        table = schema.walks
        row = {
            "account": walk.account,
            "page_size": walk.page_size,
            "began": str(walk.began),
            "ended": str(walk.ended),
            "findings": json.dumps(dict(walk.findings)),
        }
        connection.execute(sa.insert(table).values(row))
        of_account = sa.select(table.c.walk).where(table.c.account == walk.account)
        newest = of_account.order_by(table.c.walk.desc()).limit(WALKS_KEPT)
        old = sa.delete(table).where(table.c.account == walk.account, table.c.walk.not_in(newest))
        connection.execute(old)
        _say_why_held(connection, walk)

    return call


def _say_why_held(connection: Connection, walk: Walk) -> None:
    """What is said of a row is shown in its tables: where it changed, they are out of date."""
    of_intents = _intents.c.intent_id.in_(list(walk.findings))
    is_held = _intents.c.state == IntentState.UNRESOLVED.value
    query = sa.select(_intents.c.intent_id, _intents.c.held_because).where(of_intents, is_held)
    changed = defaultdict[str | None, list[str]](list)
    for intent_id, held_because in connection.execute(query).all():
        said = walk.findings[intent_id] if walk.findings[intent_id] not in ("", TOO_EARLY) else None
        if said != held_because:
            changed[said].append(intent_id)
    for said, intent_ids in changed.items():
        _move(connection, intent_ids, [IntentState.UNRESOLVED], {"held_because": said})


def record_dispute(intent_id: str, task_id: str, ours: Instant) -> Callable[[Connection], None]:
    """A task that was taken for this intent's is another's: proof of nothing, kept to be seen."""

    def call(connection: Connection) -> None:
        attempt = sa.select(_intents.c.attempt).where(_intents.c.intent_id == intent_id)
        statement = insert_into(connection, schema.observations).values(
            task_id=task_id,
            intent_id=intent_id,
            source=schema.DISPUTED,
            attempt=attempt.scalar_subquery(),
            seen_at_us=instant_of(connection, ours).wall_us,
        )
        connection.execute(statement.on_conflict_do_nothing())

    return call


def mark_not_accepted(doubts: Sequence[UnresolvedIntent], said: str) -> Callable[[Connection], int]:
    """These requests were not accepted; how many were still in doubt."""

    def call(connection: Connection) -> int:
        still = sa.or_(
            sa.false(),
            *(
                sa.and_(
                    _intents.c.intent_id == doubt.intent.intent_id,
                    _intents.c.attempt == doubt.intent.attempt,
                    _intents.c.unresolved_seq == doubt.unresolved_seq,
                )
                for doubt in doubts
            ),
        )
        ids = list(connection.execute(sa.select(_intents.c.intent_id).where(still)).scalars())
        values = {
            "state": IntentState.NOT_ACCEPTED.value,
            "reason": "not_found",
            "error_message": said,
        }
        return len(_move(connection, ids, states_before(Event.PROVE_ABSENT), values))

    return call


def note_missing(found: Sequence[Missing], ours: Instant) -> Callable[[Connection], int]:
    """
    Count tasks that Mynth says it does not know; how many are lost now.

    A task is lost after `LOST_AFTER_MISSES` looks over `LOST_AFTER_S`; one look that finds it
    begins anew.
    """

    def call(connection: Connection) -> int:
        now = instant_of(connection, ours)
        lost = [missing.intent_id for missing in found if _note_missing(connection, missing, now)]
        values = {"state": IntentState.LOST.value, "reason": "task_lost"}
        return len(_move(connection, lost, [IntentState.ACCEPTED], values))

    return call


def _note_missing(connection: Connection, missing: Missing, now: Instant) -> bool:
    of_intent = _intents.c.intent_id == missing.intent_id
    query = sa.select(_intents.c.missed, _intents.c.missing_since).where(of_intent)
    missed, since = connection.execute(query).one()
    values: dict[str, object] = {"missed": 0, "missing_since": None}
    if missing.is_missing:
        values = {"missed": missed + 1, "missing_since": since or str(now)}
    connection.execute(sa.update(_intents).where(of_intent).values(values))
    if not missing.is_missing or missed + 1 < LOST_AFTER_MISSES or since is None:
        return False
    return Instant.parse(since).surely_elapsed_us(now) >= LOST_AFTER_S * US_PER_S


def abandon(intent: Intent, reason: str) -> Callable[[Connection], bool]:
    """A person gives an open delivery up; False if it was settled in the meantime."""

    def call(connection: Connection) -> bool:
        may_move = [*states_before(Event.ABANDON), IntentState.ABANDONED]
        values = {"state": IntentState.ABANDONED.value, "reason": reason}
        return bool(_move(connection, [intent.intent_id], may_move, values))

    return call


def _move(
    connection: Connection,
    intent_ids: Sequence[str],
    states: Sequence[IntentState],
    values: Mapping[str, object],
) -> list[str]:
    """Bring these intents into another state, those that are still in one of the states."""
    before = exposure_before(connection, intent_ids)
    statement = (
        sa.update(_intents)
        .where(
            _intents.c.intent_id.in_(intent_ids),
            _intents.c.state.in_([state.value for state in states]),
        )
        .values(values)
        .returning(_intents.c.intent_id)
    )
    moved = list(connection.execute(statement).scalars())
    note_difference(connection, before, intent_ids, moved)
    return moved


# Putting intents back that an earlier ledger had, under their own ids.


_PUT_BACK = Insertion(
    schema.intents,
    [*INTENT_COLUMNS, "account", "accepted_seq", "unresolved_seq", "unresolved_since"],
    key="intent_id",
)


@dataclass(frozen=True)
class Restored:
    """An intent as it is put back; with a task where it has one."""

    intent: Intent
    account: int


def restore_intents(restored: Sequence[Restored], ours: Instant) -> Callable[[Connection], int]:
    """Insert the intents that are not there yet; how many were put back."""

    def call(connection: Connection) -> int:
        number, now = next_seq(connection), instant_of(connection, ours)
        rows = [_row(each, number, now) for each in restored]
        is_new = each_changed(connection, _PUT_BACK, rows)
        fresh = [each for each, new in zip(restored, is_new, strict=True) if new]
        _count(connection, fresh)
        return len(fresh)

    return call


def _row(each: Restored, number: int, now: Instant) -> dict[str, object]:
    is_in_doubt = each.intent.state is IntentState.UNRESOLVED
    return {
        **intent_to_row(each.intent),
        "account": each.account,
        "accepted_seq": number if each.intent.task_id else None,
        "unresolved_seq": number if is_in_doubt else None,
        "unresolved_since": str(now) if is_in_doubt else None,
    }


def _count(connection: Connection, restored: Sequence[Restored]) -> None:
    changes = Changes()
    for each in restored:
        intent = each.intent
        exposure = exposure_of(
            intent.state,
            quoted_units=intent.quoted_units,
            reserved_units=intent.reserved_units,
            charged_units=intent.charged_units,
        )
        changes.add((intent.row.batch, intent.row.window, intent.fan_out), exposure)
    apply_changes(connection, changes)


def adopt_ledger_id(ledger_id: str) -> Callable[[Connection], bool]:
    """Become the ledger that was lost; only an empty one can. Whether it did."""

    def call(connection: Connection) -> bool:
        if connection.execute(sa.select(sa.func.count()).select_from(schema.intents)).scalar():
            return False
        statement = sa.update(schema.meta).where(schema.meta.c.key == "ledger_id")
        connection.execute(statement.values(value=ledger_id))
        return True

    return call
