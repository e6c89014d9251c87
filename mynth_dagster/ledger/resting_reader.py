"""Where deliveries rest, by partition. Synchronous: call from a worker thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.queries import in_slices, rows_of
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.transitions import IntentState

_intents = schema.intents
_PLACE = (_intents.c.window, _intents.c.fan_out)


@dataclass(frozen=True)
class Resting:
    """Deliveries of one partition that were proved not accepted, and those in doubt."""

    n_cleared: int = 0
    n_unresolved: int = 0


class RestingReader:
    """Queries about deliveries that are over without a task."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def resting(self, batch: str, slices: Iterable[Slice]) -> dict[tuple[str, str], Resting]:
        """By window and fan-out; partitions without any are left out."""
        kinds = {"n_cleared": IntentState.CLEARED, "n_unresolved": IntentState.UNRESOLVED}
        counted = [
            sa.func.sum(sa.case((_intents.c.state == state.value, 1), else_=0)).label(name)
            for name, state in kinds.items()
        ]
        query = (
            sa.select(*_PLACE, *counted)
            .where(_intents.c.batch == batch, in_slices(slices))
            .where(_intents.c.state.in_([state.value for state in kinds.values()]))
            .group_by(*_PLACE)
        )
        found = rows_of(self._engine, query, lambda row: row)
        return {
            (row["window"], row["fan_out"]): Resting(
                int(row["n_cleared"]), int(row["n_unresolved"])
            )
            for row in found
        }

    def last_claims_us(self, batch: str, slices: Iterable[Slice]) -> dict[tuple[str, str], int]:
        """When a delivery into each of these partitions was last begun; reads all their rows."""
        newest = sa.func.max(_intents.c.claimed_at_us).label("claimed_at_us")
        query = (
            sa.select(*_PLACE, newest)
            .where(_intents.c.batch == batch, in_slices(slices))
            .group_by(*_PLACE)
        )
        found = rows_of(self._engine, query, lambda row: row)
        return {(row["window"], row["fan_out"]): int(row["claimed_at_us"]) for row in found}
