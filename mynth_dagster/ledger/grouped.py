"""
Statements for a whole group of members at once.

Every change of state is a compare-and-set whose row count is checked: whoever finds fewer rows
changed than asked looks at the members one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.models.transitions import Event, states_before

_intents = schema.intents


def is_before(event: Event) -> sa.ColumnElement[bool]:
    """In a state in which this may happen; no IN list, which no group of members could share."""
    return sa.or_(*(_intents.c.state == state.value for state in states_before(event)))


def each_changed(
    connection: Connection, statement: sa.Executable, rows: Sequence[dict[str, Any]]
) -> list[bool]:
    """Whether each member changed its one row; the whole group at once where all did."""
    if not rows:
        return []
    if len(rows) == 1:
        return [connection.execute(statement, rows[0]).rowcount == 1]
    savepoint = connection.begin_nested()
    if connection.execute(statement, rows).rowcount == len(rows):
        savepoint.commit()
        return [True] * len(rows)
    savepoint.rollback()
    return [connection.execute(statement, row).rowcount == 1 for row in rows]


def each_inserted(
    connection: Connection, table: sa.Table, key: str, rows: Sequence[dict[str, Any]]
) -> list[bool]:
    """
    Whether each member became a row of its own.

    Postgres tells no row count of an insert; the rows that come back say who won.
    """
    if not rows:
        return []
    statement = insert_into(connection, table).on_conflict_do_nothing().returning(table.c[key])
    inserted = set(connection.execute(statement, rows).scalars())
    is_new = []
    for row in rows:
        is_new.append(row[key] in inserted)
        inserted.discard(row[key])
    return is_new


def insert_into(connection: Connection, table: sa.Table) -> Any:
    """The dialect's insert, which alone knows ON CONFLICT."""
    inserts: dict[str, Callable[[sa.Table], Any]] = {
        "sqlite": sqlite.insert,
        "postgresql": postgresql.insert,
    }
    return inserts[connection.dialect.name](table)


def _apply_calls(connection: Connection, calls: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    return [call(connection) for call in calls]


CALL = Write("call", 5, _apply_calls)
"""Rare writes, each a function of the connection."""
