"""Writes about partitions, accounts and the ledger itself, which are rare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.chunks import chunks
from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Changes, apply_changes, note_move
from mynth_dagster.ledger.database import execute_many, insert_into, instant_of
from mynth_dagster.ledger.queries import IN_MAX
from mynth_dagster.ledger.rows import UPDATE_PLACE, is_partition, place_row
from mynth_dagster.models.batch import Slice

_partitions = schema.partitions


@dataclass(frozen=True)
class Stopped:
    """Why a run ended before it had sent all rows, and when, by the clock of its machine."""

    code: str
    message: str
    at: Instant


def _of(batch: str, slices: Sequence[Slice]) -> list[dict[str, Any]]:
    return [place_row(batch, s.window, s.fan_out) for s in slices]


def open_partitions(
    connection: Connection, batch: str, slices: Sequence[Slice], submitter: str
) -> None:
    """
    Add the partitions and record which run is sending into them.

    A new partition has a version to show at once, so that its tables are written even if none of
    its rows is ever sent.
    """
    rows = [
        {"batch": batch, "window": s.window, "fan_out": s.fan_out, "version": 1} for s in slices
    ]
    execute_many(connection, insert_into(connection, _partitions).on_conflict_do_nothing(), rows)
    execute_many(connection, UPDATE_PLACE.values(submitter=submitter), _of(batch, slices))


def release_partitions(connection: Connection, batch: str, slices: Sequence[Slice]) -> None:
    """Record that the run sent nothing: the reason of the run before it stays."""
    execute_many(connection, UPDATE_PLACE.values(submitter=None), _of(batch, slices))


def close_partitions(
    connection: Connection, batch: str, slices: Sequence[Slice], stop: Stopped | None
) -> None:
    """Record that the run sends no more, and why, if it ended early; the tables will show it."""
    code = stop.code if stop else None
    changed = sa.func.coalesce(_partitions.c.stop_code, "") != (code or "")
    values = {
        "submitter": None,
        "stop_code": code,
        "stop_message": stop.message if stop else None,
        "stopped_at_us": instant_of(connection, stop.at).wall_us if stop else None,
        "version": _partitions.c.version + sa.case((changed, 1), else_=0),
    }
    execute_many(connection, UPDATE_PLACE.values(values), _of(batch, slices))


def note_stop(connection: Connection, batch: str, slices: Sequence[Slice], stop: Stopped) -> None:
    """
    Record why nothing was sent into these partitions, unless a run sends into them now.

    A new partition has no version to show: it may not have prompts yet.
    """
    rows = [{"batch": batch, "window": s.window, "fan_out": s.fan_out} for s in slices]
    execute_many(connection, insert_into(connection, _partitions).on_conflict_do_nothing(), rows)
    is_shown = sa.and_(
        _partitions.c.version > 0, sa.func.coalesce(_partitions.c.stop_code, "") != stop.code
    )
    values = {
        "stop_code": stop.code,
        "stop_message": stop.message,
        "stopped_at_us": instant_of(connection, stop.at).wall_us,
        "version": _partitions.c.version + sa.case((is_shown, 1), else_=0),
    }
    is_free = UPDATE_PLACE.where(_partitions.c.submitter.is_(None))
    execute_many(connection, is_free.values(values), _of(batch, slices))


def move_intents(connection: Connection, moves: Sequence[tuple[str, str]]) -> None:
    """Move intents, by id, to the fan-out key at which their rows are now."""
    for chunk in chunks(moves, IN_MAX):
        note_move(connection, dict(chunk))
    statement = sa.update(schema.intents).where(
        schema.intents.c.intent_id == sa.bindparam("of_intent")
    )
    rows = [{"of_intent": intent_id, "fan_out": fan_out} for intent_id, fan_out in moves]
    execute_many(connection, statement, rows)


def bump_versions(connection: Connection, batch: str, slices: Sequence[Slice]) -> None:
    """Raise the versions of partitions whose rows changed; unknown partitions are not added."""
    apply_changes(connection, Changes.of_places((batch, s.window, s.fan_out) for s in slices))


def mark_collected(
    connection: Connection, batch: str, slice_: Slice, version: int, collector: str | None
) -> bool:
    """Record that the tables show this version; False if they already show a newer one."""
    of_partition = is_partition(batch, slice_)
    older = sa.update(_partitions).where(of_partition, _partitions.c.collected <= version)
    values = {"collected": version, "collected_by": collector}
    if connection.execute(older.values(values)).rowcount == 1:
        return True
    is_known = connection.execute(sa.select(_partitions.c.collected).where(of_partition))
    return is_known.first() is None


def mark_reported(connection: Connection, batch: str, slices: Sequence[tuple[Slice, str]]) -> None:
    """Record that these runs reported the tables that they wrote; others' are left as they are."""
    is_its = UPDATE_PLACE.where(_partitions.c.collected_by == sa.bindparam("of_collector"))
    rows = [
        {**place_row(batch, s.window, s.fan_out), "of_collector": collector}
        for s, collector in slices
    ]
    execute_many(connection, is_its.values(collected_by=None), rows)


def set_meta(connection: Connection, key: str, value: str) -> None:
    """Store one fact about the ledger or a server."""
    statement = insert_into(connection, schema.meta).values(key=key, value=value)
    statement = statement.on_conflict_do_update(index_elements=["key"], set_={"value": value})
    connection.execute(statement)


def forget_moments(connection: Connection, prefix: str, before_us: int, *, but: str) -> None:
    """Delete facts that are times (UTC microseconds) under such keys, older than this, but one."""
    meta = schema.meta
    is_such = meta.c.key.startswith(prefix, autoescape=True), meta.c.key != but
    query = sa.select(meta.c.key, meta.c.value).where(*is_such)
    old = [key for key, value in connection.execute(query).all() if int(value) < before_us]
    for chunk in chunks(old, IN_MAX):
        connection.execute(sa.delete(meta).where(meta.c.key.in_(chunk)))


def ensure_meta(connection: Connection, key: str, value: str) -> str:
    """Return the fact; store ``value`` if there is none."""
    statement = insert_into(connection, schema.meta).values(key=key, value=value)
    connection.execute(statement.on_conflict_do_nothing())
    query = sa.select(schema.meta.c.value).where(schema.meta.c.key == key)
    return str(connection.execute(query).scalar_one())


# Accounts and the ledger's own id.


def ensure_account(
    connection: Connection,
    base_url: str,
    fingerprint: str,
    user_id: str,
    key_id: str,
    now_us: int,
) -> int:
    """Return the number of a key, which gets one at its first use."""
    table = schema.accounts
    statement = insert_into(connection, table).values(
        base_url=base_url,
        fingerprint=fingerprint,
        user_id=user_id,
        key_id=key_id,
        first_seen_at_us=now_us,
    )
    connection.execute(statement.on_conflict_do_nothing())
    query = sa.select(table.c.account).filter_by(base_url=base_url, fingerprint=fingerprint)
    return int(connection.execute(query).scalar_one())


def name_account(connection: Connection, number: int, user_id: str) -> None:
    """Record the vendor's name of an account that had none."""
    table = schema.accounts
    is_nameless = (table.c.account == number) & (table.c.user_id == "")
    connection.execute(sa.update(table).where(is_nameless).values(user_id=user_id))


def adopt_ledger_id(connection: Connection, ledger_id: str) -> bool:
    """Take the id of a ledger that was lost; False if this one is not empty."""
    if connection.execute(sa.select(sa.func.count()).select_from(schema.intents)).scalar():
        return False
    statement = sa.update(schema.meta).where(schema.meta.c.key == "ledger_id")
    connection.execute(statement.values(value=ledger_id))
    return True
