"""Rare writes about partitions, accounts and the ledger itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.statements import insert_into
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.transitions import IntentState

_partitions = schema.partitions


def _is(batch: str, slice_: Slice) -> sa.ColumnElement[bool]:
    return sa.and_(
        _partitions.c.batch == batch,
        _partitions.c.window == slice_.window,
        _partitions.c.fan_out == slice_.fan_out,
    )


def open_partitions(
    batch: str, slices: Sequence[Slice], submitter: str
) -> Callable[[Connection], None]:
    """Make the partitions known and say who is sending into them now."""

    def call(connection: Connection) -> None:
        rows = [{"batch": batch, "window": s.window, "fan_out": s.fan_out} for s in slices]
        connection.execute(insert_into(connection, _partitions).on_conflict_do_nothing(), rows)
        for slice_ in slices:
            statement = sa.update(_partitions).where(_is(batch, slice_))
            connection.execute(statement.values(submitter=submitter))

    return call


def close_partitions(
    batch: str, slices: Sequence[Slice], stop_code: str | None, stop_message: str | None
) -> Callable[[Connection], None]:
    """Nobody sends any more; why, if it ended early. The tables will show it."""

    def call(connection: Connection) -> None:
        for slice_ in slices:
            changed = sa.func.coalesce(_partitions.c.stop_code, "") != (stop_code or "")
            values = {
                "submitter": None,
                "stop_code": stop_code,
                "stop_message": stop_message,
                "version": _partitions.c.version + sa.case((changed, 1), else_=0),
            }
            connection.execute(sa.update(_partitions).where(_is(batch, slice_)).values(values))

    return call


def move_intents(
    batch: str, window: str, moves: Sequence[tuple[str, str]]
) -> Callable[[Connection], None]:
    """Intents by id whose rows are in another partition of the fan-out now."""

    def call(connection: Connection) -> None:
        statement = (
            sa.update(schema.intents)
            .where(schema.intents.c.intent_id == sa.bindparam("b_intent_id"))
            .values(fan_out=sa.bindparam("b_fan_out"))
        )
        rows = [{"b_intent_id": intent, "b_fan_out": fan_out} for intent, fan_out in moves]
        connection.execute(statement, rows)
        raise_window(connection, batch, window)

    return call


def raise_window(connection: Connection, batch: str, window: str) -> None:
    """All partitions of a window have something new to show."""
    of_window = sa.and_(_partitions.c.batch == batch, _partitions.c.window == window)
    raised = {"version": _partitions.c.version + 1}
    connection.execute(sa.update(_partitions).where(of_window).values(raised))


def mark_collected(batch: str, slice_: Slice, version: int) -> Callable[[Connection], bool]:
    """The tables now show this version; False where they already show a newer one."""

    def call(connection: Connection) -> bool:
        statement = (
            sa.update(_partitions)
            .where(_is(batch, slice_), _partitions.c.collected < version)
            .values(collected=version)
        )
        return connection.execute(statement).rowcount == 1

    return call


def expire_sending(batch: str, window: str, before_us: int) -> Callable[[Connection], int]:
    """Rows left `sending` by a process that is gone become `unresolved`; returns how many."""

    def call(connection: Connection) -> int:
        statement = (
            sa.update(schema.intents)
            .where(
                schema.intents.c.batch == batch,
                schema.intents.c.window == window,
                schema.intents.c.state == IntentState.SENDING.value,
                schema.intents.c.send_by_us < before_us,
            )
            .values(state=IntentState.UNRESOLVED.value, reason="interrupted")
        )
        n_expired = connection.execute(statement).rowcount
        if n_expired:
            raise_window(connection, batch, window)
        return n_expired

    return call


def set_meta(key: str, value: str) -> Callable[[Connection], None]:
    """Remember one fact about the ledger or a server."""

    def call(connection: Connection) -> None:
        statement = insert_into(connection, schema.meta).values(key=key, value=value)
        statement = statement.on_conflict_do_update(index_elements=["key"], set_={"value": value})
        connection.execute(statement)

    return call


def ensure_meta(key: str, value: str) -> Callable[[Connection], str]:
    """The fact as remembered; ``value`` where nothing was."""

    def call(connection: Connection) -> str:
        statement = insert_into(connection, schema.meta).values(key=key, value=value)
        connection.execute(statement.on_conflict_do_nothing())
        query = sa.select(schema.meta.c.value).where(schema.meta.c.key == key)
        return str(connection.execute(query).scalar_one())

    return call


def ensure_account(
    base_url: str, user_id: str, key_id: str, now_us: int
) -> Callable[[Connection], int]:
    """The number of an account, given at first sight."""

    def call(connection: Connection) -> int:
        identity = {"base_url": base_url, "user_id": user_id, "key_id": key_id}
        statement = insert_into(connection, schema.accounts).values(
            **identity, first_seen_at_us=now_us
        )
        connection.execute(statement.on_conflict_do_nothing())
        query = sa.select(schema.accounts.c.account).filter_by(**identity)
        return int(connection.execute(query).scalar_one())

    return call
