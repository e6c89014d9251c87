"""
Statements that give an intent its task: of a row that nobody has to look at, and of any other.
"""

from __future__ import annotations

import sqlalchemy as sa

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.grouped import is_before
from mynth_dagster.ledger.statements import Cells, Change
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.models.transitions import Event, IntentState

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
            doubted_no=None,
            doubted_since=None,
            held_because=None,
            accepted_no=cells("number"),
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
    "number": _intents.c.accepted_no,
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
