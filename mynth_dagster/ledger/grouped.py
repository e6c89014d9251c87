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
from mynth_dagster.ledger.statements import GroupStatement, Row
from mynth_dagster.models.transitions import Event, states_before

_intents = schema.intents


def is_before(event: Event) -> sa.ColumnElement[bool]:
    """In a state in which this may happen."""
    return sa.or_(*(_intents.c.state == state.value for state in states_before(event)))


def each_changed(
    connection: Connection, statement: GroupStatement, rows: Sequence[Row]
) -> list[bool]:
    """Whether each member changed or made its one row; the whole group at once where all did."""
    if len(rows) > 1 and all_changed(connection, statement, rows):
        return [True] * len(rows)
    return [statement.run(connection, [row]) == 1 for row in rows]


def all_changed(connection: Connection, statement: GroupStatement, rows: Sequence[Row]) -> bool:
    """Whether every member changed or made its one row; where not all can, none does."""
    if not statement.may_go_together(rows):
        return False
    connection.exec_driver_sql("SAVEPOINT members")
    is_done = statement.run(connection, rows) == len(rows)
    connection.exec_driver_sql(f"{'RELEASE' if is_done else 'ROLLBACK TO'} SAVEPOINT members")
    return is_done


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
