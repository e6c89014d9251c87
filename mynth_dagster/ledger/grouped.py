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
_SQLITE: Any = sqlite.dialect
_POSTGRES: Any = postgresql.dialect

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
        if connection.dialect.name == "sqlite":
            return connection.exec_driver_sql(self._text_for_one, list(rows)).rowcount
        arrays = {f"all_{name}": [row[name] for row in rows] for name in self._types}
        return connection.exec_driver_sql(self._text_for_all, arrays).rowcount

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
        def named(name: str) -> sa.ColumnElement[Any]:
            return sa.literal_column(f":{name}", self._types[name])

        return _in_sql(self._for_one(named), _SQLITE())

    @cached_property
    def _text_for_all(self) -> str:
        kinds = self._types.items()
        arrays = [_array(f"all_{name}", kind) for name, kind in kinds]
        columns = [sa.column(name, kind) for name, kind in kinds]
        members = sa.func.unnest(*arrays).table_valued(*columns).render_derived("members")
        return _in_sql(self._for_all(members), _POSTGRES())


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


class Lookup:
    """A query about any number of ids, which go along as one parameter."""

    def __init__(self, build: Callable[[Callable[[Any], Any]], sa.Select[Any]]) -> None:
        self._build = build

    def rows(self, connection: Connection, ids: Collection[str]) -> Sequence[Any]:
        """What is found, in the driver's own types."""
        if connection.dialect.name == "sqlite":
            found = connection.exec_driver_sql(self._for_sqlite, {"ids": json.dumps(list(ids))})
        else:
            found = connection.exec_driver_sql(self._for_postgres, {"ids": list(ids)})
        return found.all()

    @cached_property
    def _for_sqlite(self) -> str:
        each = sa.func.json_each(sa.literal_column(":ids")).table_valued("value")
        ids = sa.select(each.c.value)
        return _in_sql(self._build(lambda column: column.in_(ids)), _SQLITE())

    @cached_property
    def _for_postgres(self) -> str:
        ids = _array("ids", sa.Text())
        return _in_sql(self._build(lambda column: column == sa.any_(ids)), _POSTGRES())


def each_changed(
    connection: Connection, statement: GroupStatement, rows: Sequence[Row]
) -> list[bool]:
    """Whether each member changed or made its one row; the whole group at once where all did."""
    if len(rows) > 1 and statement.may_go_together(rows):
        connection.exec_driver_sql("SAVEPOINT members")
        if statement.run(connection, rows) == len(rows):
            connection.exec_driver_sql("RELEASE SAVEPOINT members")
            return [True] * len(rows)
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT members")
    return [statement.run(connection, [row]) == 1 for row in rows]


def _array(name: str, kind: Any) -> sa.ColumnElement[Any]:
    element = kind.compile(dialect=_POSTGRES())
    return sa.literal_column(f"%({name})s::{element}[]", sa.ARRAY(kind))


def _in_sql(statement: Any, dialect: Any) -> str:
    """As the driver takes it: compiled once, constants in place, parameters by name."""
    text = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    return text.replace("%%(", "%(")


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
