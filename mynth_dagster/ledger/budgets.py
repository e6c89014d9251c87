"""Caps, checked in the transaction that claims: nobody else can use up the same money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Place
from mynth_dagster.models.budget import Budget, Scope
from mynth_dagster.models.exposure import NOTHING, Exposure


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


def exceeded_scopes(connection: Connection, wishes: Sequence[Wish]) -> list[Scope | None]:
    """
    For each wish the scope that has no room for it; the wishes before it are counted in.

    The counters stay locked until the transaction ends.
    """
    if not any(wish.budget.is_set for wish in wishes):
        return [None] * len(wishes)
    used = _used(connection, sorted({wish.place[0] for wish in wishes if wish.budget.is_set}))
    exceeded: list[Scope | None] = []
    for wish in wishes:
        in_scope = {scope: used[key] for scope, key in wish.keys.items()}
        exceeded.append(wish.budget.exceeded(in_scope, wish.price_units))
        if exceeded[-1] is None:
            for key in wish.keys.values():
                used[key] += Exposure(reserved=wish.price_units)
    return exceeded


def _used(connection: Connection, batches: Sequence[str]) -> defaultdict[tuple[str, ...], Exposure]:
    """The exposure of these batches, their windows and their partitions."""
    used: defaultdict[tuple[str, ...], Exposure] = defaultdict(lambda: NOTHING)
    if not batches:
        return used
    table = schema.partitions
    place = (table.c.batch, table.c.window, table.c.fan_out)
    amounts = (table.c.spent_units, table.c.reserved_units, table.c.unknown_units)
    query = sa.select(*place, *amounts).where(table.c.batch.in_(batches)).order_by(*place)
    for batch, window, fan_out, *units in connection.execute(query.with_for_update()):
        for key in ((batch, window, fan_out), (batch, window), (batch,)):
            used[key] += Exposure(*units)
    return used
