"""Rare writes about partitions, accounts and the ledger itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.grouped import insert_into, raise_versions_of
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.transitions import Event, IntentState, states_before

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
        of_window = sa.select(schema.intents.c.fan_out).where(
            schema.intents.c.batch == batch, schema.intents.c.window == window
        )
        left = list(connection.execute(of_window.distinct()).scalars())
        statement = (
            sa.update(schema.intents)
            .where(schema.intents.c.intent_id == sa.bindparam("b_intent_id"))
            .values(fan_out=sa.bindparam("b_fan_out"))
        )
        rows = [{"b_intent_id": intent, "b_fan_out": fan_out} for intent, fan_out in moves]
        connection.execute(statement, rows)
        raise_versions(connection, batch, window, [*left, *(fan_out for _, fan_out in moves)])

    return call


def raise_versions(
    connection: Connection, batch: str, window: str, fan_outs: Iterable[str]
) -> None:
    """These partitions of a window have something new to show."""
    statement = sa.update(_partitions).where(
        _partitions.c.batch == batch,
        _partitions.c.window == window,
        _partitions.c.fan_out.in_(sorted(set(fan_outs))),
    )
    connection.execute(statement.values(version=_partitions.c.version + 1))


def raise_partitions(batch: str, slices: Sequence[Slice]) -> Callable[[Connection], None]:
    """The rows of these partitions changed; those that nobody sent into stay unknown."""

    def call(connection: Connection) -> None:
        for slice_ in slices:
            raise_versions(connection, batch, slice_.window, [slice_.fan_out])

    return call


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
        interrupted = sa.and_(
            schema.intents.c.batch == batch,
            schema.intents.c.window == window,
            schema.intents.c.state == IntentState.SENDING.value,
            schema.intents.c.send_by_us < before_us,
        )
        places = sa.select(schema.intents.c.fan_out).where(interrupted).distinct()
        fan_outs = list(connection.execute(places).scalars())
        ended = {"state": IntentState.UNRESOLVED.value, "reason": "interrupted"}
        result = connection.execute(sa.update(schema.intents).where(interrupted).values(ended))
        raise_versions(connection, batch, window, fan_outs)
        return result.rowcount

    return call


def abandon(intent: Intent, reason: str) -> Callable[[Connection], bool]:
    """A person gives an open delivery up; False if it was settled in the meantime."""

    def call(connection: Connection) -> bool:
        may_move = [*states_before(Event.ABANDON), IntentState.ABANDONED]
        statement = (
            sa.update(schema.intents)
            .where(
                schema.intents.c.intent_id == intent.intent_id,
                schema.intents.c.state.in_([state.value for state in may_move]),
            )
            .values(state=IntentState.ABANDONED.value, reason=reason)
        )
        is_abandoned = connection.execute(statement).rowcount == 1
        if is_abandoned:
            raise_versions_of(connection, [intent.intent_id])
        return is_abandoned

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
