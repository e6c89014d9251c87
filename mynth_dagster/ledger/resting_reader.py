"""Where deliveries rest, by partition. Synchronous: call from a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.queries import in_slices, rows_of
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.transitions import IntentState

_intents, _partitions = schema.intents, schema.partitions
_PLACE = (_intents.c.window, _intents.c.fan_out)


@dataclass(frozen=True)
class Resting:
    """
    Deliveries of one partition that were proved not accepted, and those in doubt.

    `n_unsearched` of those in doubt were not yet searched for late enough to prove anything.
    """

    n_cleared: int = 0
    n_unsearched: int = 0


class RestingReader:
    """Queries about deliveries that are over without a task."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def resting(self, batch: str) -> dict[tuple[str, str], Resting]:
        """By window and fan-out; partitions without any are left out."""
        is_cleared = _intents.c.state == IntentState.CLEARED.value
        is_unresolved = _intents.c.state == IntentState.UNRESOLVED.value
        kinds = {
            "n_cleared": is_cleared,
            "n_unsearched": is_unresolved & _intents.c.held_because.is_(None),
        }
        counted = [
            sa.func.sum(sa.case((is_one, 1), else_=0)).label(name) for name, is_one in kinds.items()
        ]
        query = (
            sa.select(*_PLACE, *counted)
            .where(_intents.c.batch == batch)
            .where(is_cleared | is_unresolved)
            .group_by(*_PLACE)
        )
        found = rows_of(self._engine, query, lambda row: row)
        return {
            (row["window"], row["fan_out"]): Resting(
                int(row["n_cleared"]), int(row["n_unsearched"])
            )
            for row in found
        }

    def last_tries_us(self, batch: str, slices: Sequence[Slice]) -> dict[tuple[str, str], int]:
        """
        When a delivery into each of these partitions was last begun, or a run last stopped.

        A run stops for all its partitions at once, also for those that it had not begun. Reads
        all rows of these partitions.
        """
        begun = (
            sa.select(*_PLACE, sa.func.max(_intents.c.claimed_at_us).label("at_us"))
            .where(_intents.c.batch == batch, in_slices(slices))
            .group_by(*_PLACE)
        )
        stopped = (
            sa.select(
                _partitions.c.window,
                _partitions.c.fan_out,
                _partitions.c.stopped_at_us.label("at_us"),
            )
            .where(_partitions.c.batch == batch, in_slices(slices, _partitions))
            .where(_partitions.c.stopped_at_us.is_not(None))
        )
        tries: dict[tuple[str, str], int] = {}
        for query in (begun, stopped):
            for row in rows_of(self._engine, query, lambda row: row):
                place = row["window"], row["fan_out"]
                tries[place] = max(tries.get(place, 0), int(row["at_us"]))
        return tries
