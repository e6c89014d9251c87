"""Rare writes about partitions, accounts and the ledger itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.chunks import chunks
from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Changes, apply_changes, note_move
from mynth_dagster.ledger.database import instant_of
from mynth_dagster.ledger.statements import IN_MAX, insert_into
from mynth_dagster.models.batch import Slice

_partitions = schema.partitions


@dataclass(frozen=True)
class Stopped:
    """Why a run ended before it had sent all rows, and when, by the clock of its machine."""

    code: str
    message: str
    at: Instant


def is_partition(batch: str, slice_: Slice) -> sa.ColumnElement[bool]:
    """A row is the one of this partition."""
    return sa.and_(
        _partitions.c.batch == batch,
        _partitions.c.window == slice_.window,
        _partitions.c.fan_out == slice_.fan_out,
    )


def open_partitions(
    batch: str, slices: Sequence[Slice], submitter: str
) -> Callable[[Connection], None]:
    """
    Make the partitions known and say who is sending into them now.

    A partition that was not known has a version to show at once, so that its tables are written
    even if none of its rows is ever sent.
    """

    def call(connection: Connection) -> None:
        rows = [
            {"batch": batch, "window": s.window, "fan_out": s.fan_out, "version": 1} for s in slices
        ]
        connection.execute(insert_into(connection, _partitions).on_conflict_do_nothing(), rows)
        for slice_ in slices:
            statement = sa.update(_partitions).where(is_partition(batch, slice_))
            connection.execute(statement.values(submitter=submitter))

    return call


def release_partitions(batch: str, slices: Sequence[Slice]) -> Callable[[Connection], None]:
    """Nobody sends, and nothing was sent: why the run before ended early stays known."""

    def call(connection: Connection) -> None:
        for slice_ in slices:
            statement = sa.update(_partitions).where(is_partition(batch, slice_))
            connection.execute(statement.values(submitter=None))

    return call


def close_partitions(
    batch: str, slices: Sequence[Slice], stop: Stopped | None
) -> Callable[[Connection], None]:
    """Nobody sends any more; why, if it ended early. The tables will show it."""

    def call(connection: Connection) -> None:
        code = stop.code if stop else None
        changed = sa.func.coalesce(_partitions.c.stop_code, "") != (code or "")
        values = {
            "submitter": None,
            "stop_code": code,
            "stop_message": stop.message if stop else None,
            "stopped_at_us": instant_of(connection, stop.at).wall_us if stop else None,
            "version": _partitions.c.version + sa.case((changed, 1), else_=0),
        }
        for slice_ in slices:
            connection.execute(
                sa.update(_partitions).where(is_partition(batch, slice_)).values(values)
            )

    return call


def note_stop(batch: str, slices: Sequence[Slice], stop: Stopped) -> Callable[[Connection], None]:
    """
    Nothing was sent into these partitions, and why; where somebody sends now, nothing is noted.

    A partition that was not known has no version to show: there may be no prompts of it yet.
    """

    def call(connection: Connection) -> None:
        rows = [{"batch": batch, "window": s.window, "fan_out": s.fan_out} for s in slices]
        connection.execute(insert_into(connection, _partitions).on_conflict_do_nothing(), rows)
        is_shown = sa.and_(
            _partitions.c.version > 0, sa.func.coalesce(_partitions.c.stop_code, "") != stop.code
        )
        values = {
            "stop_code": stop.code,
            "stop_message": stop.message,
            "stopped_at_us": instant_of(connection, stop.at).wall_us,
            "version": _partitions.c.version + sa.case((is_shown, 1), else_=0),
        }
        for slice_ in slices:
            is_free = sa.and_(is_partition(batch, slice_), _partitions.c.submitter.is_(None))
            connection.execute(sa.update(_partitions).where(is_free).values(values))

    return call


def move_intents(moves: Sequence[tuple[str, str]]) -> Callable[[Connection], None]:
    """Intents by id whose rows are in another partition of the fan-out now, with its key."""

    def call(connection: Connection) -> None:
        for some in chunks(moves, IN_MAX):
            note_move(connection, dict(some))
        statement = (
            sa.update(schema.intents)
            .where(schema.intents.c.intent_id == sa.bindparam("b_intent_id"))
            .values(fan_out=sa.bindparam("b_fan_out"))
        )
        rows = [{"b_intent_id": intent, "b_fan_out": fan_out} for intent, fan_out in moves]
        if rows:
            connection.execute(statement, rows)

    return call


def bump_versions(batch: str, slices: Sequence[Slice]) -> Callable[[Connection], None]:
    """The rows of these partitions changed; those that nobody sent into stay unknown."""

    def call(connection: Connection) -> None:
        changes = Changes()
        for slice_ in slices:
            changes.add((batch, slice_.window, slice_.fan_out))
        apply_changes(connection, changes)

    return call


def mark_collected(
    batch: str, slice_: Slice, version: int, collector: str | None
) -> Callable[[Connection], bool]:
    """The tables now show this version; False where they were said to show a newer one."""

    def call(connection: Connection) -> bool:
        of_partition = is_partition(batch, slice_)
        older = sa.update(_partitions).where(of_partition, _partitions.c.collected <= version)
        values = {"collected": version, "collected_by": collector}
        if connection.execute(older.values(values)).rowcount == 1:
            return True
        is_known = connection.execute(sa.select(_partitions.c.collected).where(of_partition))
        return is_known.first() is None

    return call


def mark_reported(batch: str, slices: Sequence[tuple[Slice, str]]) -> Callable[[Connection], None]:
    """Whoever wrote the tables of these partitions has told so; another one's word is kept."""

    def call(connection: Connection) -> None:
        for slice_, collector in slices:
            is_its = sa.and_(is_partition(batch, slice_), _partitions.c.collected_by == collector)
            connection.execute(sa.update(_partitions).where(is_its).values(collected_by=None))

    return call


def set_meta(key: str, value: str) -> Callable[[Connection], None]:
    """Remember one fact about the ledger or a server."""

    def call(connection: Connection) -> None:
        statement = insert_into(connection, schema.meta).values(key=key, value=value)
        statement = statement.on_conflict_do_update(index_elements=["key"], set_={"value": value})
        connection.execute(statement)

    return call


def forget_moments(prefix: str, before_us: int, *, but: str) -> Callable[[Connection], None]:
    """Facts that are moments (UTC microseconds), under such keys, older than this, but for one."""

    def call(connection: Connection) -> None:
        meta = schema.meta
        is_such = meta.c.key.startswith(prefix, autoescape=True), meta.c.key != but
        query = sa.select(meta.c.key, meta.c.value).where(*is_such)
        old = [key for key, value in connection.execute(query).all() if int(value) < before_us]
        for some in chunks(old, IN_MAX):
            connection.execute(sa.delete(meta).where(meta.c.key.in_(some)))

    return call


def ensure_meta(key: str, value: str) -> Callable[[Connection], str]:
    """The fact as remembered; ``value`` where nothing was."""

    def call(connection: Connection) -> str:
        statement = insert_into(connection, schema.meta).values(key=key, value=value)
        connection.execute(statement.on_conflict_do_nothing())
        query = sa.select(schema.meta.c.value).where(schema.meta.c.key == key)
        return str(connection.execute(query).scalar_one())

    return call
