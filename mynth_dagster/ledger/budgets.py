"""Caps, checked in the transaction that claims: nobody else can use up the same money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Place
from mynth_dagster.ledger.numbers import is_postgres
from mynth_dagster.models.money import NOTHING, Budget, Exposure, Scope

_LOCKS = 0x6D79
"""Of Postgres: the first of the two numbers of a lock on a batch's counters."""


@dataclass(frozen=True)
class Wish:
    """A request that is about to be claimed, and the caps that it has to fit under."""

    place: Place
    budget: Budget
    price_units: int

    @property
    def keys(self) -> dict[Scope, tuple[str, ...]]:
        """What each scope is called in this partition."""
        batch, window, _ = self.place
        return {Scope.PARTITION: self.place, Scope.WINDOW: (batch, window), Scope.BATCH: (batch,)}

    @property
    def capped_keys(self) -> list[tuple[str, ...]]:
        """Those of them that have a cap."""
        return [key for scope, key in self.keys.items() if self.budget.cap(scope) is not None]


def exceeded_scopes(connection: Connection, wishes: Sequence[Wish]) -> list[Scope | None]:
    """
    For each wish the scope that has no room for it; the wishes before it are counted in.

    Other claims of these batches wait until the transaction ends.
    """
    capped = [wish for wish in wishes if wish.budget.is_set]
    if not capped:
        return [None] * len(wishes)
    _lock(connection, sorted({wish.place[0] for wish in capped}))
    used = _used(connection, {key for wish in capped for key in wish.capped_keys})
    exceeded: list[Scope | None] = []
    for wish in wishes:
        in_scope = {scope: used[key] for scope, key in wish.keys.items()}
        exceeded.append(wish.budget.exceeded(in_scope, wish.price_units))
        if exceeded[-1] is None:
            for key in wish.keys.values():
                used[key] += Exposure(reserved=wish.price_units)
    return exceeded


def _lock(connection: Connection, batches: Sequence[str]) -> None:
    """SQLite has one writer at a time; on Postgres two claims could both fit under one cap."""
    if is_postgres(connection):
        for batch in batches:
            lock = sa.func.pg_advisory_xact_lock(_LOCKS, sa.func.hashtext(batch))
            connection.execute(sa.select(lock))


def _used(
    connection: Connection, keys: Collection[tuple[str, ...]]
) -> defaultdict[tuple[str, ...], Exposure]:
    """
    The exposure of these batches, windows and partitions.

    Added up by the database over the front of its primary key, and only for scopes that have a cap:
    a batch may have thousands of partitions.
    """
    used: defaultdict[tuple[str, ...], Exposure] = defaultdict(lambda: NOTHING)
    fan_outs: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for key in (key for key in keys if len(key) == len(_PLACE)):
        fan_outs[key[:-1]].append(key[-1])
    for window, names in fan_outs.items():
        query = sa.select(_PLACE[-1], *_AMOUNTS).where(*_is_in(window), _PLACE[-1].in_(names))
        for name, *units in connection.execute(query):
            used[(*window, name)] = Exposure(*units)
    sums = [sa.func.coalesce(sa.func.sum(amount), 0) for amount in _AMOUNTS]
    for key in (key for key in keys if len(key) < len(_PLACE)):
        total = connection.execute(sa.select(*sums).where(*_is_in(key))).one()
        used[key] = Exposure(*(int(amount) for amount in total))
    return used


_partitions = schema.partitions
_PLACE = (_partitions.c.batch, _partitions.c.window, _partitions.c.fan_out)
_AMOUNTS = (_partitions.c.spent_units, _partitions.c.reserved_units, _partitions.c.unknown_units)


def _is_in(scope: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    return [column == name for column, name in zip(_PLACE, scope, strict=False)]
