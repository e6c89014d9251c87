"""
The counters of a partition: its version, and its exposure in money.

Caps are checked in every claim, so the money of a partition must not be summed over all of its
rows; and a counter that misses one change is wrong for ever. So each partition has three counters,
`spent`, `reserved` and `unknown`, and every write that changes intents keeps them up to date in its
own transaction, in the same three steps:

1. `exposure_before` sums what the intents of the write hold now. On Postgres it locks their rows,
   so that no other writer changes them until the COMMIT.
2. The write changes the intents.
3. `note_difference` sums again and adds the difference to the counters of their partitions, with
   one more version.

`models.money.exposure_of` alone defines what an intent holds in each state, so no write decides
which counter goes up or down. Writes whose difference is known beforehand add it without the sums
(`Changes`): a claim adds what was quoted, since a row that is not being sent holds nothing, and the
response to a row that is being sent adds what Mynth holds beyond the quote.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.database import execute_many, is_postgres
from mynth_dagster.ledger.rows import UPDATE_PLACE, place_row
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.money import (
    NOTHING,
    Budget,
    Exposure,
    Scope,
    exposure_of,
    exposure_of_surplus,
)
from mynth_dagster.models.transitions import IntentState

_intents = schema.intents
_partitions = schema.partitions
_tasks = schema.tasks

Place = tuple[str, str, str]
"""Batch, window and fan-out key of a partition."""
_PLACE = ("batch", "window", "fan_out")
_AMOUNTS = ("spent", "reserved", "unknown")
_PLACE_COLUMNS = tuple(_partitions.c[name] for name in _PLACE)
_AMOUNT_COLUMNS = tuple(_partitions.c[f"{name}_units"] for name in _AMOUNTS)


def place_of(intent: Intent) -> Place:
    """Return the partition in which an intent is counted."""
    return intent.row.batch, intent.row.window, intent.fan_out


@dataclass
class Changes:
    """The changes of partitions that one write gathers."""

    by_place: dict[Place, Exposure] = field(default_factory=dict)

    @classmethod
    def of_places(cls, places: Iterable[Place]) -> Changes:
        """Make changes of these partitions' versions, without money."""
        return cls(dict.fromkeys(places, NOTHING))

    def add(self, place: Place, difference: Exposure = NOTHING) -> None:
        """Note that a partition has something new to show, and this much more money in it."""
        self.by_place[place] = self.by_place.get(place, NOTHING) + difference

    @classmethod
    def of_reserved(cls, units: Iterable[tuple[Intent, int]]) -> Changes:
        """Make the changes of intents that hold this much more than before."""
        sums: Counter[Place] = Counter()
        for intent, more in units:
            sums[place_of(intent)] += more
        return cls({place: Exposure(reserved=more) for place, more in sums.items()})


_PLACE_OF_INTENT = tuple(_intents.c[name] for name in _PLACE)
_HELD = sa.func.coalesce(_intents.c.reserved_units, _intents.c.quoted_units, 0)
_SUMS: sa.Select[Any] = sa.select(
    *_PLACE_OF_INTENT, _intents.c.state, sa.func.sum(_HELD), sa.func.sum(_intents.c.charged_units)
).group_by(*_PLACE_OF_INTENT, _intents.c.state, _intents.c.charged_units.is_not(None))


def exposure_of_places(
    connection: Connection, intent_ids: Collection[str]
) -> dict[Place, Exposure]:
    """Add up the exposure of these intents by place."""
    found: dict[Place, Exposure] = {}
    query = _SUMS.where(_intents.c.intent_id.in_(intent_ids))
    for batch, window, fan_out, state, held_units, charged_units in connection.execute(query):
        exposure = exposure_of(
            IntentState(state),
            quoted_units=None,
            reserved_units=int(held_units),
            charged_units=None if charged_units is None else int(charged_units),
        )
        place = (batch, window, fan_out)
        found[place] = found.get(place, NOTHING) + exposure
    return found


def exposure_before(connection: Connection, intent_ids: Collection[str]) -> dict[Place, Exposure]:
    """
    Add up the exposure of intents that are about to be changed, and lock them until then.

    SQLite has one writer at a time. On Postgres the intents are locked first, since another
    writer's change would be counted twice; always in the same order, so that two writers cannot
    deadlock.
    """
    if is_postgres(connection):
        these = sa.select(_intents.c.intent_id).where(_intents.c.intent_id.in_(intent_ids))
        connection.execute(these.order_by(_intents.c.intent_id).with_for_update()).all()
    return exposure_of_places(connection, intent_ids)


def note_difference(
    connection: Connection,
    before: Mapping[Place, Exposure],
    intent_ids: Collection[str],
    changed: Collection[str],
    surplus: Iterable[tuple[str, Exposure]] = (),
) -> None:
    """
    Add the difference that the changed intents make to the counters of their partitions.

    Args:
        before: What `exposure_before` returned for all the intents, before some of them changed.
        surplus: What further tasks of an intent add, by intent id.
    """
    if not changed:
        return
    after, changes = exposure_of_places(connection, intent_ids), Changes()
    places = after if len(changed) == len(intent_ids) else exposure_of_places(connection, changed)
    for place in places:
        changes.add(place, after[place] - before[place])
    for intent_id, difference in surplus:
        (place,) = exposure_of_places(connection, [intent_id])
        changes.add(place, difference)
    apply_changes(connection, changes)


_RAISE = UPDATE_PLACE.values(
    version=_partitions.c.version + 1,
    **{
        column.name: column + sa.bindparam(f"{name}_more")
        for name, column in zip(_AMOUNTS, _AMOUNT_COLUMNS, strict=True)
    },
)


def apply_changes(connection: Connection, changes: Changes) -> None:
    """
    Raise versions and counters.

    One partition after the other and always in the same order, so that on Postgres two writers
    cannot deadlock.
    """
    rows = [
        {
            **place_row(*place),
            **{f"{name}_more": getattr(difference, name) for name in _AMOUNTS},
        }
        for place, difference in sorted(changes.by_place.items(), key=lambda change: change[0])
    ]
    execute_many(connection, _RAISE, rows)


def note_move(connection: Connection, moves: Mapping[str, str]) -> None:
    """Move the money of intents that are about to move to other fan-out keys of their window."""
    changes = Changes()

    def note(place: Place, fan_out: str, exposure: Exposure) -> None:
        changes.add(place, NOTHING - exposure)
        changes.add((place[0], place[1], fan_out), exposure)

    for fan_out in set(moves.values()):
        moved = [intent_id for intent_id, to in moves.items() if to == fan_out]
        for place, exposure in exposure_before(connection, moved).items():
            note(place, fan_out, exposure)
    for intent_id, held_units, charged_units in surplus_rows(connection, _tasks.c.intent_id, moves):
        (place,) = exposure_of_places(connection, [intent_id])
        note(place, moves[intent_id], exposure_of_surplus(held_units, charged_units))
    apply_changes(connection, changes)


def surplus_rows(
    connection: Connection, column: sa.ColumnElement[str], values: Collection[str]
) -> list[tuple[str, int | None, int | None]]:
    """Return further tasks with these values in a column: intent id, held and charged units."""
    columns = (_tasks.c.intent_id, _tasks.c.reserved_units, _tasks.c.charged_units)
    query = sa.select(*columns).where(column.in_(values), _tasks.c.is_surplus)
    return [(intent_id, held, charged) for intent_id, held, charged in connection.execute(query)]


# Caps, checked in the transaction that claims, so that no other claim uses up the same money.


_LOCKS = 0x6D79
"""The first of the two numbers of Postgres's lock on a batch's counters."""


@dataclass(frozen=True)
class BudgetRequest:
    """A request that is about to be claimed, and the caps that it has to fit under."""

    place: Place
    budget: Budget
    price_units: int

    @property
    def keys(self) -> dict[Scope, tuple[str, ...]]:
        """The key of each scope in this partition."""
        batch, window, _ = self.place
        return {Scope.PARTITION: self.place, Scope.WINDOW: (batch, window), Scope.BATCH: (batch,)}

    @property
    def capped_keys(self) -> list[tuple[str, ...]]:
        """The keys of the scopes that have a cap."""
        return [key for scope, key in self.keys.items() if self.budget.cap(scope) is not None]


def exceeded_scopes(
    connection: Connection, requests: Sequence[BudgetRequest]
) -> list[Scope | None]:
    """
    Return for each request the scope that has no room for it, if any.

    A request counts the ones before it. Other claims of these batches wait until the transaction
    ends.
    """
    capped = [request for request in requests if request.budget.is_set]
    if not capped:
        return [None] * len(requests)
    _lock(connection, sorted({request.place[0] for request in capped}))
    used = _used(connection, {key for request in capped for key in request.capped_keys})
    exceeded: list[Scope | None] = []
    for request in requests:
        in_scope = {scope: used[key] for scope, key in request.keys.items()}
        exceeded.append(request.budget.exceeded(in_scope, request.price_units))
        if exceeded[-1] is None:
            for key in request.keys.values():
                used[key] += Exposure(reserved=request.price_units)
    return exceeded


def _lock(connection: Connection, batches: Sequence[str]) -> None:
    """Lock the batches' caps: on Postgres two claims could both fit under one cap."""
    if is_postgres(connection):
        for batch in batches:
            lock = sa.func.pg_advisory_xact_lock(_LOCKS, sa.func.hashtext(batch))
            connection.execute(sa.select(lock))


def _used(
    connection: Connection, keys: Collection[tuple[str, ...]]
) -> defaultdict[tuple[str, ...], Exposure]:
    """
    Return the exposure of these batches, windows and partitions.

    The database adds up, by a prefix of the primary key, and only for scopes that have a cap: a
    batch may have thousands of partitions.
    """
    used: defaultdict[tuple[str, ...], Exposure] = defaultdict(lambda: NOTHING)
    fan_outs: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for key in (key for key in keys if len(key) == len(_PLACE_COLUMNS)):
        fan_outs[key[:-1]].append(key[-1])
    for window, names in fan_outs.items():
        query = sa.select(_PLACE_COLUMNS[-1], *_AMOUNT_COLUMNS).where(
            *_is_in(window), _PLACE_COLUMNS[-1].in_(names)
        )
        for name, *units in connection.execute(query):
            used[(*window, name)] = Exposure(*units)
    sums = [sa.func.coalesce(sa.func.sum(amount), 0) for amount in _AMOUNT_COLUMNS]
    for key in (key for key in keys if len(key) < len(_PLACE_COLUMNS)):
        total = connection.execute(sa.select(*sums).where(*_is_in(key))).one()
        used[key] = Exposure(*(int(amount) for amount in total))
    return used


def _is_in(scope: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    return [column == name for column, name in zip(_PLACE_COLUMNS, scope, strict=False)]
