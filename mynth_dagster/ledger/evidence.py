"""
Evidence: a task id that belongs to an intent is kept, whatever the state and however late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.clock import US_PER_S
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.attaching import ATTACH, ATTACH_SENDING, LEARN_HOLD
from mynth_dagster.ledger.counters import Changes, apply_changes, exposure_before, note_difference
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.grouped import all_changed, each_changed
from mynth_dagster.ledger.numbers import newest_number
from mynth_dagster.ledger.spool import SpooledAnswer
from mynth_dagster.ledger.statements import Insertion, Row
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.money import exposure_of_surplus

_intents = schema.intents

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
    schema.sightings, ["task_id", "intent_id", "source", "attempt", "seen_at_us"], key="task_id"
)


def _apply_sightings(connection: Connection, seen: Sequence[Sighting]) -> list[Attachment]:
    number = newest_number(connection)
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


def _spooled(sighting: Sighting) -> SpooledAnswer:
    return SpooledAnswer(
        intent_id=sighting.intent.intent_id,
        attempt=sighting.intent.attempt,
        task_id=sighting.task_id,
        reserved_units=sighting.reserved_units,
        seen_at_us=sighting.seen_at_us,
        deadline_at_us=sighting.deadline_at_us,
    )


def _is_sighting_kept(connection: Connection, sighting: Sighting, _: Attachment) -> bool:
    table = schema.sightings
    query = sa.select(table.c.task_id).where(
        table.c.task_id == sighting.task_id, table.c.intent_id == sighting.intent.intent_id
    )
    return connection.execute(query).first() is not None


SIGHT = Write("sight", 0, _apply_sightings, _spooled, _is_sighting_kept)
