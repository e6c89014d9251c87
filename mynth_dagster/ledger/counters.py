"""
What a partition counts: its version, and its exposure in money.

Both change in the transaction of whatever changes them. A write looks at its intents, changes
them, and notes the difference; nobody adds up by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.models.exposure import (
    NOTHING,
    Exposure,
    exposure_of,
    exposure_of_surplus,
)
from mynth_dagster.models.transitions import IntentState

_intents = schema.intents
_partitions = schema.partitions

Place = tuple[str, str, str]
"""Batch, window and fan-out key of a partition."""


@dataclass
class Changes:
    """What the partitions have to be told, gathered over one write."""

    by_place: dict[Place, Exposure] = field(default_factory=dict)

    def add(self, place: Place, difference: Exposure = NOTHING) -> None:
        """The partition has something new to show, and this much more money in it."""
        self.by_place[place] = self.by_place.get(place, NOTHING) + difference


def look_at(connection: Connection, intent_ids: Sequence[str]) -> dict[str, tuple[Place, Exposure]]:
    """Where these intents are, and their exposure."""
    columns = (
        *(_intents.c.intent_id, _intents.c.batch, _intents.c.window, _intents.c.fan_out),
        *(_intents.c.state, _intents.c.quoted_units),
        *(_intents.c.reserved_units, _intents.c.charged_units),
    )
    query = sa.select(*columns).where(_intents.c.intent_id.in_(intent_ids))
    return {
        intent_id: (
            (batch, window, fan_out),
            exposure_of(
                IntentState(state),
                quoted_units=quoted,
                reserved_units=reserved,
                charged_units=charged,
            ),
        )
        for intent_id, batch, window, fan_out, state, quoted, reserved, charged in (
            connection.execute(query)
        )
    }


def note_difference(
    connection: Connection,
    before: Mapping[str, tuple[Place, Exposure]],
    changed: Sequence[str],
    surplus: Iterable[tuple[str, Exposure]] = (),
) -> None:
    """
    Tell the partitions of the changed intents; `before` is what `look_at` said of them.

    Args:
        surplus: What further tasks of an intent add, by intent id.
    """
    if not changed:
        return
    changes = Changes()
    for intent_id, (place, exposure) in look_at(connection, changed).items():
        changes.add(place, exposure - before[intent_id][1])
    for intent_id, difference in surplus:
        changes.add(before[intent_id][0], difference)
    apply_changes(connection, changes)


_TELL = (
    sa.update(_partitions)
    .where(
        _partitions.c.batch == sa.bindparam("b_batch"),
        _partitions.c.window == sa.bindparam("b_window"),
        _partitions.c.fan_out == sa.bindparam("b_fan_out"),
    )
    .values(
        version=_partitions.c.version + 1,
        spent_units=_partitions.c.spent_units + sa.bindparam("b_spent"),
        reserved_units=_partitions.c.reserved_units + sa.bindparam("b_reserved"),
        unknown_units=_partitions.c.unknown_units + sa.bindparam("b_unknown"),
    )
)


def apply_changes(connection: Connection, changes: Changes) -> None:
    """Raise versions and counters, always in the same order of partitions."""
    rows = [
        {
            "b_batch": batch,
            "b_window": window,
            "b_fan_out": fan_out,
            "b_spent": difference.spent,
            "b_reserved": difference.reserved,
            "b_unknown": difference.unknown,
        }
        for (batch, window, fan_out), difference in sorted(
            changes.by_place.items(), key=lambda change: change[0]
        )
    ]
    if rows:
        connection.execute(_TELL, rows)


def note_move(connection: Connection, moves: Mapping[str, str]) -> None:
    """Before intents move to other fan-out keys of their window: their money moves along."""
    changes = Changes()
    found = look_at(connection, list(moves))
    for intent_id, difference in _of_surplus(connection, list(moves)):
        place, exposure = found[intent_id]
        found[intent_id] = (place, exposure + difference)
    for intent_id, (place, exposure) in found.items():
        changes.add(place, NOTHING - exposure)
        changes.add((place[0], place[1], moves[intent_id]), exposure)
    apply_changes(connection, changes)


def _of_surplus(connection: Connection, intent_ids: Sequence[str]) -> list[tuple[str, Exposure]]:
    tasks = schema.tasks
    query = sa.select(tasks.c.intent_id, tasks.c.reserved_units, tasks.c.charged_units).where(
        tasks.c.intent_id.in_(intent_ids), tasks.c.is_surplus
    )
    return [
        (intent_id, exposure_of_surplus(held_units, charged_units))
        for intent_id, held_units, charged_units in connection.execute(query)
    ]
