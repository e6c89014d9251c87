"""
Observations: everything that a source reports about a task, in any state and however late.

One transaction attaches the task to its intent (a compare-and-set), keeps the evidence, stores
its status or result, and raises the version and the money of the partitions that it changes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import (
    Changes,
    apply_changes,
    exposure_before,
    note_difference,
    place_of,
    surplus_rows,
)
from mynth_dagster.ledger.database import (
    execute_all,
    execute_each,
    execute_many,
    insert_into,
    instant_of,
    newest_seq,
    next_seq,
)
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.journal import JournalEntry
from mynth_dagster.ledger.rows import constant, intent_to_row, is_before, task_to_json
from mynth_dagster.limits import LOST_AFTER_MISSES, LOST_AFTER_S
from mynth_dagster.models.intent import TOO_EARLY, Awaited, Intent, UnresolvedIntent, Walk
from mynth_dagster.models.money import Exposure, exposure_of, exposure_of_surplus
from mynth_dagster.models.task import PublicAccessToken, Task, TaskStatus, outcome_event
from mynth_dagster.models.transitions import Event, IntentState, next_state, states_before

_intents, _tasks = schema.intents, schema.tasks
_others = _intents.alias("others")


class Source(str, Enum):
    """
    The source of an observation.

    `response` is the response to the row's own POST; `journal` a response that an earlier process
    could not write into the ledger.
    """

    RESPONSE = "response"
    LIST = "list"
    STATUS = "status"
    TASK = "task"
    WEBHOOK = "webhook"
    JOURNAL = "journal"
    PERSON = "person"


@dataclass(frozen=True)
class Observation:
    """
    Everything that one source reports about one task; money is in units of 10⁻⁸ USD.

    Args:
        intent: Whose task it is. An `Intent`: the source is evidence of that, and the task is
            attached. An `Awaited`: it was attached before. None: the source does not show.
        deadline_at_us: UTC microseconds; after this a task that is attached now is called stalled.
        reserved_units: What Mynth holds for the task; None if it does not report it.
        status: The task's status, if Mynth does not show the task in full.
        is_missing: Mynth reports that it does not know the task, which it accepted.
        task: The finished task, read in full.
    """

    source: Source
    task_id: str
    seen_at: Instant
    intent: Intent | Awaited | None = None
    deadline_at_us: int | None = None
    reserved_units: int | None = None
    status: TaskStatus | None = None
    is_missing: bool = False
    task: Task | None = None

    @classmethod
    def of_intent(
        cls,
        source: Source,
        intent: Intent,
        task_id: str,
        seen_at: Instant,
        *,
        deadline_s: float,
        reserved_units: int | None = None,
    ) -> Observation:
        """Make the evidence that a task is an intent's; it has `deadline_s` from now to finish."""
        deadline_at_us = seen_at.wall_us + round(deadline_s * US_PER_S)
        return cls(source, task_id, seen_at, intent, deadline_at_us, reserved_units)

    @property
    def evidence(self) -> Intent | None:
        """The intent that the task is attached to by this."""
        return self.intent if isinstance(self.intent, Intent) else None


class Attachment(str, Enum):
    """
    What an observed task is to its intent.

    `surplus` is a further task of an intent that has one; `foreign` a task that is already
    another intent's, which therefore proves nothing here.
    """

    ATTACHED = "attached"
    KNOWN = "known"
    SURPLUS = "surplus"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Observed:
    """
    What an observation changed.

    Args:
        attachment: What the task is to its intent; None if the observation does not show it.
        is_news: Whether it finished the row.
        is_lost: Whether the task was missed often enough, over long enough, to be lost now.
    """

    attachment: Attachment | None = None
    is_news: bool = False
    is_lost: bool = False


def _apply_observations(
    connection: Connection, observations: Sequence[Observation]
) -> list[Observed]:
    attachments = _attach_all(connection, [o for o in observations if o.evidence])
    known = [o for o in observations if attachments.get(id(o)) is not Attachment.FOREIGN]
    _note_statuses(connection, [o for o in known if o.status is not None and o.task is None])
    lost = _count_missing(connection, [o for o in known if o.is_missing])
    news = _store_tasks(connection, [o for o in known if o.task is not None])
    return [Observed(attachments.get(id(o)), id(o) in news, id(o) in lost) for o in observations]


# A task is attached to its intent.


def _attach_all(
    connection: Connection, observations: Sequence[Observation]
) -> dict[int, Attachment]:
    """Attach tasks to intents; return what each is to its intent, by the observation's `id()`."""
    if not observations:
        return {}
    seq = newest_seq(connection)
    responses = [o for o in observations if o.source is Source.RESPONSE]
    others = [o for o in observations if o.source is not Source.RESPONSE]
    if responses and execute_all(connection, _ATTACH_SENDING, _attach_rows(responses, seq)):
        # Nearly always. Such rows hold what was quoted, so their exposure need not be added up.
        more = (
            (intent, (_held_units(o) or 0) - (intent.quoted_units or 0))
            for o in responses
            if (intent := o.evidence)
        )
        apply_changes(connection, Changes.of_reserved(more))
        attachments = {id(o): Attachment.ATTACHED for o in responses}
    else:
        others, attachments = [*responses, *others], {}
    if others:
        attachments |= _sort_out(connection, others, seq)
    _keep_evidence(connection, observations)
    return attachments


def _attach_statement() -> sa.Update:
    """Build the update that gives an intent without a task this one, unless it is another's."""
    task_id = sa.bindparam("of_task", type_=sa.Text)
    intent_id = sa.bindparam("of_intent", type_=sa.Text)
    is_known = sa.select(1).where(_tasks.c.task_id == task_id, _tasks.c.intent_id != intent_id)
    is_attached = sa.select(1).where(_others.c.task_id == task_id, _others.c.intent_id != intent_id)
    return (
        sa.update(_intents)
        .where(
            _intents.c.intent_id == intent_id,
            is_before(Event.SIGHT),
            ~sa.exists(is_known.correlate_except(_tasks)),
            ~sa.exists(is_attached.correlate_except(_others)),
        )
        .values(
            state=constant(IntentState.ACCEPTED),
            reason=sa.null(),
            error_code=sa.null(),
            error_message=sa.null(),
            error_field=sa.null(),
            http_status=sa.null(),
            task_id=task_id,
            remote_status=constant(TaskStatus.PENDING),
            reserved_units=sa.func.coalesce(sa.bindparam("reserved"), _intents.c.quoted_units),
            submitted_at_us=sa.bindparam("at_us"),
            deadline_at_us=sa.bindparam("deadline_us"),
            missed=sa.literal_column("0"),
            missing_since=sa.null(),
            unresolved_seq=sa.null(),
            unresolved_since=sa.null(),
            held_because=sa.null(),
            accepted_seq=sa.bindparam("seq"),
        )
    )


_ATTACH = _attach_statement()
_ATTACH_SENDING = _ATTACH.where(
    _intents.c.state == constant(IntentState.SENDING),
    _intents.c.attempt == sa.bindparam("of_attempt"),
    _intents.c.fan_out == sa.bindparam("of_fan_out"),
    _intents.c.reserved_units.is_(None),
)
"""The same update, for a row that is still being sent as its sender knows it."""


def _attach_rows(observations: Sequence[Observation], seq: int) -> list[dict[str, Any]]:
    return [
        {
            "of_intent": intent.intent_id,
            "of_attempt": intent.attempt,
            "of_fan_out": intent.fan_out,
            "of_task": o.task_id,
            "reserved": o.reserved_units,
            "at_us": o.seen_at.wall_us,
            "deadline_us": o.deadline_at_us,
            "seq": seq,
        }
        for o in observations
        if (intent := o.evidence)
    ]


def _sort_out(
    connection: Connection, observations: Sequence[Observation], seq: int
) -> dict[int, Attachment]:
    """Attach what can be attached, determine what the rest is, and keep further tasks."""
    intent_ids = {o.evidence.intent_id for o in observations if o.evidence}
    before = exposure_before(connection, intent_ids)
    is_attached = execute_each(connection, _ATTACH, _attach_rows(observations, seq))
    attachments: dict[int, Attachment] = {}
    changed: set[str] = set()
    surplus: list[tuple[str, Exposure]] = []
    for o, was_attached in zip(observations, is_attached, strict=True):
        intent = o.evidence
        assert intent is not None
        attachment = Attachment.ATTACHED if was_attached else _unattached(connection, o, intent)
        attachments[id(o)] = attachment
        if attachment is Attachment.ATTACHED or (
            attachment is Attachment.KNOWN and _learn_hold(connection, o)
        ):
            changed.add(intent.intent_id)
        elif attachment is Attachment.SURPLUS and _keep_surplus(connection, o, intent):
            changed.add(intent.intent_id)
            surplus.append((intent.intent_id, exposure_of_surplus(_held_units(o), None)))
    note_difference(connection, before, intent_ids, changed, surplus)
    return attachments


def _unattached(connection: Connection, o: Observation, intent: Intent) -> Attachment:
    """Return what a task is that did not become the intent's first one."""
    owner = sa.select(_tasks.c.intent_id).where(_tasks.c.task_id == o.task_id)
    attached_to = sa.select(_intents.c.intent_id).where(_intents.c.task_id == o.task_id)
    owners = {*connection.execute(owner).scalars(), *connection.execute(attached_to).scalars()}
    if owners - {intent.intent_id}:
        return Attachment.FOREIGN
    first = sa.select(_intents.c.task_id).where(_intents.c.intent_id == intent.intent_id)
    is_first = connection.execute(first).scalar() == o.task_id
    return Attachment.KNOWN if is_first else Attachment.SURPLUS


def _learn_hold(connection: Connection, o: Observation) -> bool:
    """Store what a response says is held after a webhook attached its task; False if known."""
    if o.reserved_units is None:
        return False
    statement = sa.update(_intents).where(
        _intents.c.task_id == o.task_id,
        sa.func.coalesce(_intents.c.reserved_units, -1) != o.reserved_units,
    )
    return connection.execute(statement.values(reserved_units=o.reserved_units)).rowcount == 1


def _keep_surplus(connection: Connection, o: Observation, intent: Intent) -> bool:
    """Keep a further task; False if it was kept before."""
    row = {
        "task_id": o.task_id,
        "intent_id": intent.intent_id,
        "is_surplus": True,
        "reserved_units": _held_units(o),
    }
    insert = insert_into(connection, _tasks).on_conflict_do_nothing()
    return execute_many(connection, insert, [row]) == 1


def _held_units(o: Observation) -> int | None:
    """Return what Mynth holds for the task: as it reported, else as quoted."""
    if o.reserved_units is None and o.evidence is not None:
        return o.evidence.quoted_units
    return o.reserved_units


def _keep_evidence(connection: Connection, observations: Sequence[Observation]) -> None:
    rows = [
        {
            "task_id": o.task_id,
            "intent_id": intent.intent_id,
            "source": o.source.value,
            "attempt": intent.attempt,
            "seen_at_us": o.seen_at.wall_us,
        }
        for o in observations
        if (intent := o.evidence)
    ]
    insert = insert_into(connection, schema.observations).on_conflict_do_nothing()
    execute_many(connection, insert, rows)


# Reports about a task that is attached: its status, that there is no such task, or all of it.


_NOTE_STATUS = (
    sa.update(_intents)
    .where(
        _intents.c.task_id == sa.bindparam("of_task"),
        _intents.c.state == constant(IntentState.ACCEPTED),
        sa.or_(
            _intents.c.remote_status.is_distinct_from(sa.bindparam("status")),
            _intents.c.missed > sa.literal_column("0"),
        ),
    )
    .values(
        remote_status=sa.bindparam("status"),
        missed=sa.literal_column("0"),
        missing_since=sa.null(),
    )
)


def _note_statuses(connection: Connection, observations: Sequence[Observation]) -> None:
    newest = {o.task_id: o.status.value for o in observations if o.status}
    rows = [{"of_task": task_id, "status": status} for task_id, status in newest.items()]
    execute_many(connection, _NOTE_STATUS, rows)


def _count_missing(connection: Connection, observations: Sequence[Observation]) -> set[int]:
    """
    Count tasks that Mynth does not know; return those (by `id()`) that are lost now.

    A task is lost after `LOST_AFTER_MISSES` observations over `LOST_AFTER_S`; a status in between
    resets the count.
    """
    lost: set[int] = set()
    for o in observations:
        now = instant_of(connection, o.seen_at)
        of_task = _intents.c.task_id == o.task_id
        query = sa.select(_intents.c.intent_id, _intents.c.missed, _intents.c.missing_since)
        row = connection.execute(query.where(of_task)).first()
        if row is None:
            continue
        intent_id, missed, since = row
        values = {"missed": missed + 1, "missing_since": since or str(now)}
        connection.execute(sa.update(_intents).where(of_task).values(values))
        if missed + 1 < LOST_AFTER_MISSES or since is None:
            continue
        if Instant.parse(since).surely_elapsed_us(now) >= LOST_AFTER_S * US_PER_S:
            values = {"state": IntentState.LOST.value, "reason": "task_lost"}
            if _move(connection, [intent_id], [IntentState.ACCEPTED], values):
                lost.add(id(o))
    return lost


_FINISH = sa.update(_intents).where(
    _intents.c.task_id == sa.bindparam("of_task"),
    _intents.c.state == constant(IntentState.ACCEPTED),
)


def _store_tasks(connection: Connection, observations: Sequence[Observation]) -> set[int]:
    """Store finished tasks as read; return the observations (by `id()`) that finished rows."""
    readings = [(o, o.intent, o.task) for o in observations if o.intent and o.task]
    if not readings:
        return set()
    intent_ids = {intent.intent_id for _, intent, _ in readings}
    before = exposure_before(connection, intent_ids)
    rows = [_finish_row(intent, task) for _, intent, task in readings]
    is_finished = execute_each(connection, _FINISH, rows)
    insert = insert_into(connection, _tasks)
    filled = ("details", "charged_units", "read_at_us")
    store = insert.on_conflict_do_update(  # a further task was kept as one when it was seen
        index_elements=["task_id"],
        set_={name: insert.excluded[name] for name in filled},
        where=_tasks.c.details.is_(None),
    )
    details = [
        {
            "task_id": task.task_id,
            "intent_id": intent.intent_id,
            "is_surplus": False,
            "details": task_to_json(task),
            "charged_units": _charged_units(task),
            "read_at_us": o.seen_at.wall_us,
        }
        for o, intent, task in readings
    ]
    is_stored = execute_each(connection, store, details)
    news = [
        (intent.intent_id, task.task_id)
        for (_, intent, task), finished, stored in zip(
            readings, is_finished, is_stored, strict=True
        )
        if finished or stored
    ]
    surplus = [  # what reading them changes in the exposure of their intents
        (intent_id, exposure_of_surplus(held, charged) - exposure_of_surplus(held, None))
        for intent_id, held, charged in surplus_rows(
            connection, _tasks.c.task_id, [task_id for _, task_id in news]
        )
    ]
    changed = {intent_id for intent_id, _ in news}
    note_difference(connection, before, intent_ids, changed, surplus)
    return {id(o) for (o, _, _), finished in zip(readings, is_finished, strict=True) if finished}


def _finish_row(intent: Intent | Awaited, task: Task) -> dict[str, Any]:
    event = outcome_event(task, intent.n_asked)
    state = next_state(IntentState.ACCEPTED, event, key=intent.intent_id)
    fault = task.first_fault if state is IntentState.FAILED else None
    return {
        "of_task": task.task_id,
        "state": state.value,
        "remote_status": task.status.value,
        "charged_units": _charged_units(task),
        "completed_at_us": task.updated_at_us,
        "error_code": fault.code if fault else None,
        "error_message": fault.message if fault else None,
    }


def _charged_units(task: Task) -> int | None:
    """Return the charge: a failed task without a cost costs nothing, any other is unknown."""
    if task.cost_units is None and task.status is TaskStatus.FAILED:
        return 0
    return task.cost_units


def _to_journal(o: Observation) -> JournalEntry | None:
    """Return what was paid for, which has to survive the process if the database fails."""
    if o.evidence is None:
        return None
    return JournalEntry(
        intent_id=o.evidence.intent_id,
        attempt=o.evidence.attempt,
        task_id=o.task_id,
        reserved_units=o.reserved_units,
        seen_at_us=o.seen_at.wall_us,
        deadline_at_us=o.deadline_at_us,
    )


def _is_kept(connection: Connection, o: Observation, _: Observed) -> bool:
    assert o.evidence is not None
    table = schema.observations
    is_it = sa.and_(table.c.task_id == o.task_id, table.c.intent_id == o.evidence.intent_id)
    return connection.execute(sa.select(table.c.task_id).where(is_it)).first() is not None


OBSERVE = Write("observe", 0, _apply_observations, _to_journal, _is_kept)


def save_token(connection: Connection, task_id: str, token: PublicAccessToken) -> None:
    """Save the public access token of a task, where the batch wants them."""
    row = {"task_id": task_id, "token": token.token, "expires_at_us": token.expires_at_us}
    connection.execute(insert_into(connection, schema.tokens).on_conflict_do_nothing(), row)


# Requests whose outcome is not known: walks over the task list, rows not accepted, rows given up.


WALKS_KEPT = 100


def expire_sending(
    connection: Connection, batch: str, window: str, grace_us: int, ours: Instant
) -> int:
    """Turn rows left `sending` by a gone process into `unresolved`; return how many."""
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


def record_walk(connection: Connection, walk: Walk) -> None:
    """Record a complete walk; only the newest ones of an account are kept."""
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
    _note_why_held(connection, walk)


def _note_why_held(connection: Connection, walk: Walk) -> None:
    """Store why rows are held; where that changed, the tables that show it are out of date."""
    of_intents = _intents.c.intent_id.in_(list(walk.findings))
    is_held = _intents.c.state == IntentState.UNRESOLVED.value
    query = sa.select(_intents.c.intent_id, _intents.c.held_because).where(of_intents, is_held)
    changed = defaultdict[str | None, list[str]](list)
    for intent_id, held_because in connection.execute(query).all():
        finding = walk.findings[intent_id]
        reason = None if finding in ("", TOO_EARLY) else finding
        if reason != held_because:
            changed[reason].append(intent_id)
    for reason, intent_ids in changed.items():
        _move(connection, intent_ids, [IntentState.UNRESOLVED], {"held_because": reason})


def record_dispute(connection: Connection, intent_id: str, task_id: str, ours: Instant) -> None:
    """Record that a task with this intent's id is another's: it proves nothing, but is shown."""
    attempt = sa.select(_intents.c.attempt).where(_intents.c.intent_id == intent_id)
    statement = insert_into(connection, schema.observations).values(
        task_id=task_id,
        intent_id=intent_id,
        source=schema.DISPUTED,
        attempt=attempt.scalar_subquery(),
        seen_at_us=instant_of(connection, ours).wall_us,
    )
    connection.execute(statement.on_conflict_do_nothing())


def mark_not_accepted(
    connection: Connection, unresolved: Sequence[UnresolvedIntent], message: str
) -> int:
    """Mark requests as not accepted; return how many were still in doubt."""
    marked = {x.intent.intent_id: (x.intent.attempt, x.unresolved_seq) for x in unresolved}
    query = sa.select(_intents.c.intent_id, _intents.c.attempt, _intents.c.unresolved_seq)
    rows = connection.execute(query.where(_intents.c.intent_id.in_(list(marked))))
    ids = [intent_id for intent_id, *attempt in rows if marked[intent_id] == tuple(attempt)]
    values = {
        "state": IntentState.NOT_ACCEPTED.value,
        "reason": "not_found",
        "error_message": message,
    }
    return len(_move(connection, ids, states_before(Event.PROVE_ABSENT), values))


def abandon(connection: Connection, intent: Intent, reason: str) -> bool:
    """Give an open delivery up for a person; False if it was resolved in the meantime."""
    may_move = [*states_before(Event.ABANDON), IntentState.ABANDONED]
    values = {"state": IntentState.ABANDONED.value, "reason": reason}
    return bool(_move(connection, [intent.intent_id], may_move, values))


def _move(
    connection: Connection,
    intent_ids: Sequence[str],
    states: Sequence[IntentState],
    values: Mapping[str, object],
) -> list[str]:
    """Move the intents that are still in one of the states to another; return their ids."""
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


# Restoring intents that an earlier ledger had, under their own ids.


def restore_intents(
    connection: Connection, intents: Sequence[Intent], account: int, ours: Instant
) -> int:
    """Insert the intents that are not there yet; return how many were restored."""
    seq, now = next_seq(connection), instant_of(connection, ours)
    rows = []
    for intent in intents:
        is_unresolved = intent.state is IntentState.UNRESOLVED
        row = intent_to_row(intent) | {
            "account": account,
            "accepted_seq": seq if intent.task_id else None,
            "unresolved_seq": seq if is_unresolved else None,
            "unresolved_since": str(now) if is_unresolved else None,
        }
        rows.append(row)
    insert = insert_into(connection, _intents).on_conflict_do_nothing()
    is_new = execute_each(connection, insert, rows)
    changes = Changes()
    for intent, new in zip(intents, is_new, strict=True):
        if new:
            exposure = exposure_of(
                intent.state,
                quoted_units=intent.quoted_units,
                reserved_units=intent.reserved_units,
                charged_units=intent.charged_units,
            )
            changes.add(place_of(intent), exposure)
    apply_changes(connection, changes)
    return sum(is_new)
