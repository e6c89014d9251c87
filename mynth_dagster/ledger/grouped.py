"""
Statements for a whole group of members at once.

SQLite runs a statement member by member within one call of the driver; Postgres gets the members
as arrays, which it unnests into a relation. Neither pays for a statement, or for a round trip,
per member.

Every change of state is a compare-and-set whose row count is checked: whoever finds fewer rows
changed than asked looks at the members one by one.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.models.transitions import Event, states_before

_intents = schema.intents
_COUNTED = {"preserve_rowcount": True}

Row = Mapping[str, Any]
Cells = Callable[[str], Any]
"""What a member brings, by name, as it stands in a statement."""


def is_before(event: Event) -> sa.ColumnElement[bool]:
    """In a state in which this may happen."""
    return sa.or_(*(_intents.c.state == state.value for state in states_before(event)))


class GroupStatement(ABC):
    """
    One row changed or made for each member of a group.

    Args:
        brings: What each member brings, with a column of the same type.
        distinct: Members that share one of these get into each other's way.
    """

    def __init__(self, brings: Mapping[str, sa.Column[Any]], *, distinct: Collection[str]) -> None:
        self._types = {name: column.type for name, column in brings.items()}
        self._distinct = distinct

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """How many rows were changed or made."""
        counted = connection.execution_options(**_COUNTED)
        if connection.dialect.name == "sqlite":
            return counted.exec_driver_sql(self._text_for_one, list(rows)).rowcount
        arrays = {f"all_{name}": [row[name] for row in rows] for name in self._types}
        return counted.execute(self._unnested, arrays).rowcount

    def may_go_together(self, rows: Sequence[Row]) -> bool:
        """Whether no two of these members get into each other's way."""
        return all(len({row[name] for row in rows}) == len(rows) for name in self._distinct)

    @abstractmethod
    def _for_one(self, cells: Cells) -> sa.Executable:
        """The statement, run once for each member."""

    @abstractmethod
    def _for_all(self, members: sa.FromClause) -> sa.Executable:
        """The statement, run once for a relation of members."""

    @cached_property
    def _text_for_one(self) -> str:
        """In SQL, with names that the driver binds: the fastest way into SQLite."""

        def named(name: str) -> sa.ColumnElement[Any]:
            return sa.literal_column(f":{name}", self._types[name])

        statement: Any = self._for_one(named)
        inline = {"literal_binds": True}
        return str(statement.compile(dialect=sqlite.dialect(), compile_kwargs=inline))

    @cached_property
    def _unnested(self) -> sa.Executable:
        kinds = self._types.items()
        arrays = [sa.bindparam(f"all_{name}", type_=sa.ARRAY(kind)) for name, kind in kinds]
        columns = [sa.column(name, kind) for name, kind in kinds]
        members = sa.func.unnest(*arrays).table_valued(*columns).render_derived("members")
        return self._for_all(members)


class Change(GroupStatement):
    """An update; `build` makes it from the members' cells."""

    def __init__(
        self,
        build: Callable[[Cells], sa.Update],
        brings: Mapping[str, sa.Column[Any]],
        *,
        distinct: Collection[str],
    ) -> None:
        super().__init__(brings, distinct=distinct)
        self._build = build

    def _for_one(self, cells: Cells) -> sa.Update:
        return self._build(cells)

    def _for_all(self, members: sa.FromClause) -> sa.Update:
        return self._build(lambda name: members.c[name])


class Insertion(GroupStatement):
    """New rows with these columns, but for those that are there; no two members share the key."""

    def __init__(self, table: sa.Table, names: Sequence[str], *, key: str) -> None:
        super().__init__({name: table.c[name] for name in names}, distinct=[key])
        self._table = table

    def _for_one(self, cells: Cells) -> sa.Insert:
        values = {name: cells(name) for name in self._types}
        return sqlite.insert(self._table).values(values).on_conflict_do_nothing().inline()

    def _for_all(self, members: sa.FromClause) -> sa.Insert:
        rows = sa.select(*members.c)
        made = postgresql.insert(self._table).from_select(list(self._types), rows)
        return made.on_conflict_do_nothing()


def each_changed(
    connection: Connection, statement: GroupStatement, rows: Sequence[Row]
) -> list[bool]:
    """Whether each member changed or made its one row; the whole group at once where all did."""
    if len(rows) > 1 and statement.may_go_together(rows):
        savepoint = connection.begin_nested()
        if statement.run(connection, rows) == len(rows):
            savepoint.commit()
            return [True] * len(rows)
        savepoint.rollback()
    return [statement.run(connection, [row]) == 1 for row in rows]


def among(connection: Connection, column: Any, values: Collection[str]) -> sa.ColumnElement[bool]:
    """The column is one of the values; one parameter, so that any number shares a statement."""
    if connection.dialect.name == "sqlite":
        each = sa.func.json_each(json.dumps(list(values))).table_valued("value")
        found: sa.ColumnElement[bool] = column.in_(sa.select(each.c.value))
    else:
        found = column == sa.any_(sa.literal(list(values), sa.ARRAY(sa.Text)))
    return found


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
