"""
Stops and fences: rows that may not be claimed any more, by whichever process and machine.

A *stop* is a person's decision about a batch, a partition or everything, until it is lifted. A
*fence* shuts out one run that has ended in Dagster, for ever: a process of it that was left behind
claims nothing more. The transaction of each claim checks both, so that no claim commits after
either of them has. What such a process still learns of tasks is recorded all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.database import insert_into, instant_of, is_postgres
from mynth_dagster.ledger.group_commit import GroupCommit
from mynth_dagster.ledger.queries import Reader
from mynth_dagster.models.batch import batch_of

_stops, _fences = schema.stops, schema.fences

_CLAIMS_LOCK = 0x6D796E7469
"""The number of Postgres's lock that claims share, and a stop holds alone."""


@dataclass(frozen=True)
class Stop:
    """
    A person's decision that nothing more is sent.

    Args:
        batch: The batch's identity in the ledger, with which its follow-ups are stopped; empty:
            every batch.
        window: With `fan_out` the partition; None: every partition.
        who: User and machine, or the Dagster run that was stopped.
        at_us: UTC microseconds.
    """

    batch: str
    window: str | None
    fan_out: str | None
    who: str
    reason: str
    at_us: int

    def covers(self, batch: str, window: str, fan_out: str) -> bool:
        """Whether nothing may be sent into this partition."""
        is_here = self.window is None or (self.window, self.fan_out) == (window, fan_out)
        return self.batch in ("", batch, batch_of(batch)) and is_here


@dataclass(frozen=True)
class Barriers:
    """The stops and fences that the claims of one transaction meet."""

    stops: tuple[Stop, ...] = ()
    fenced_runs: frozenset[str] = frozenset()


def read_barriers(connection: Connection, runs: Collection[str]) -> Barriers:
    """
    Read the stops, and which of these runs are fenced.

    On Postgres a stop waits for the claims before it, and later claims wait for the stop.
    """
    if is_postgres(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock_shared({_CLAIMS_LOCK})")
    stops = [_from_row(row) for row in connection.execute(_ACTIVE).mappings()]
    fenced = sa.select(_fences.c.run_id).where(_fences.c.run_id.in_(list(runs)))
    return Barriers(tuple(stops), frozenset(connection.execute(fenced).scalars()))


class Stops(Reader):
    """The ledger's stops and fences; a write returns after COMMIT."""

    def __init__(self, commits: GroupCommit, reader: Engine) -> None:
        super().__init__(reader)
        self._commits = commits

    async def stop(self, stop: Stop, now: Instant) -> None:
        """Set a stop: once this returns, nothing it covers is claimed; the newest reason counts."""
        await self._commits.call(_stop, stop, now)

    async def lift(
        self, batch: str, window: str | None, fan_out: str | None, *, who: str, now: Instant
    ) -> list[Stop]:
        """
        Lift the stops of a batch, of one of its partitions, or (empty) of everything; return them.

        The stops of a batch's partitions are lifted with the batch's, and all with everything's.
        """
        return await self._commits.call(_lift, batch, window, fan_out, who, now)

    async def fence(self, run_id: str, reason: str, now: Instant) -> bool:
        """Fence a run: it claims nothing more; False if it was fenced before."""
        return await self._commits.call(_fence, run_id, reason, now)

    def active(self) -> list[Stop]:
        """Return the stops that are not lifted, oldest first."""
        return [_from_row(row) for row in self._all(_ACTIVE)]

    def fenced(self, run_ids: Collection[str]) -> dict[str, str]:
        """Return which of these runs are fenced, and why."""
        query = sa.select(_fences).where(_fences.c.run_id.in_(list(run_ids)))
        return {row["run_id"]: row["reason"] for row in self._all(query)}


_ACTIVE = sa.select(_stops).where(_stops.c.lifted_at_us.is_(None)).order_by(_stops.c.stop)


def _alone(connection: Connection) -> None:
    if is_postgres(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CLAIMS_LOCK})")


def _stop(connection: Connection, stop: Stop, ours: Instant) -> None:
    _alone(connection)
    at_us = instant_of(connection, ours).wall_us
    same = _is_active(stop.batch, stop.window, stop.fan_out)
    replaced = {"lifted_at_us": at_us, "lifted_by": stop.who}
    connection.execute(sa.update(_stops).where(same).values(replaced))
    connection.execute(sa.insert(_stops).values({**vars(stop), "at_us": at_us}))


def _lift(
    connection: Connection,
    batch: str,
    window: str | None,
    fan_out: str | None,
    who: str,
    ours: Instant,
) -> list[Stop]:
    if batch and window is not None:
        lifted = _is_active(batch, window, fan_out)
    else:
        lifted = _stops.c.lifted_at_us.is_(None)
        lifted = lifted & (_stops.c.batch == batch) if batch else lifted
    rows = connection.execute(sa.select(_stops).where(lifted)).mappings().all()
    values = {"lifted_at_us": instant_of(connection, ours).wall_us, "lifted_by": who}
    connection.execute(sa.update(_stops).where(lifted).values(values))
    return [_from_row(row) for row in rows]


def _fence(connection: Connection, run_id: str, reason: str, ours: Instant) -> bool:
    _alone(connection)
    row = {"run_id": run_id, "reason": reason, "at_us": instant_of(connection, ours).wall_us}
    statement = insert_into(connection, _fences).values(row).on_conflict_do_nothing()
    return connection.execute(statement.returning(_fences.c.run_id)).first() is not None


def _is_active(batch: str, window: str | None, fan_out: str | None) -> sa.ColumnElement[bool]:
    return sa.and_(
        _stops.c.lifted_at_us.is_(None),
        _stops.c.batch == batch,
        _stops.c.window.is_not_distinct_from(window),
        _stops.c.fan_out.is_not_distinct_from(fan_out),
    )


def _from_row(row: Mapping[Any, Any]) -> Stop:
    return Stop(**{name: row[name] for name in Stop.__dataclass_fields__})
