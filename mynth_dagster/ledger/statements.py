"""
Statements about many rows at once, compiled once and bound by the driver itself.

SQLite runs a statement member by member within one call; Postgres gets the members as arrays,
which it unnests into a relation. Neither pays for a statement, or for a round trip, per member,
and SQLAlchemy binds nothing one by one.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

_SQLITE: Any = sqlite.dialect
_POSTGRES: Any = postgresql.dialect
IDS = "ids"
_MARK = re.compile(r"<(\w+)>")
"""Where a member's cell goes in a statement for SQLite."""
_OnConflict = TypeVar("_OnConflict", sqlite.Insert, postgresql.Insert)

Row = Mapping[str, Any]
Cells = Callable[[str], Any]
"""What a member brings, by name, as it stands in a statement."""


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
            text, cells_of = self._for_sqlite
            return connection.exec_driver_sql(text, [cells_of(row) for row in rows]).rowcount
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
    def _for_sqlite(self) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
        """The statement, and a member's cells in its order: SQLite binds names slowly."""

        def marked(name: str) -> sa.ColumnElement[Any]:
            return sa.literal_column(f"<{name}>", self._types[name])

        text = _in_sql(self._for_one(marked), _SQLITE())
        return _MARK.sub("?", text), itemgetter(*_MARK.findall(text))

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
    """
    New rows with these columns; no two members share the key.

    Args:
        fills: Columns that a row which is there takes over as long as the first of them is empty;
            without any, it stays as it is.
    """

    def __init__(
        self, table: sa.Table, names: Sequence[str], *, key: str, fills: Sequence[str] = ()
    ) -> None:
        super().__init__({name: table.c[name] for name in names}, distinct=[key])
        self._table = table
        self._key = key
        self._fills = fills

    def _for_one(self, cells: Cells) -> sa.Insert:
        values = {name: cells(name) for name in self._types}
        return self._unless_there(sqlite.insert(self._table).values(values)).inline()

    def _for_all(self, members: sa.FromClause) -> sa.Insert:
        rows = sa.select(*members.c)
        made = postgresql.insert(self._table).from_select(list(self._types), rows)
        return self._unless_there(made)

    def _unless_there(self, made: _OnConflict) -> _OnConflict:
        if not self._fills:
            return made.on_conflict_do_nothing()
        return made.on_conflict_do_update(
            index_elements=[self._key],
            set_={name: made.excluded[name] for name in self._fills},
            where=self._table.c[self._fills[0]].is_(None),
        )


class Names:
    """Parameters of a `Lookup` as they stand in its statement."""

    def __init__(self, *, is_postgres: bool, one_id: bool = False) -> None:
        self._is_postgres, self._one_id = is_postgres, one_id

    def __call__(self, name: str) -> sa.ColumnElement[Any]:
        """A single value."""
        text = f"%({name})s" if self._is_postgres else f":{name}"
        return sa.literal_column(text, sa.Text())

    def among(self, column: Any) -> sa.ColumnElement[bool]:
        """The column is one of the ids."""
        if self._is_postgres:
            found: sa.ColumnElement[bool] = column == sa.any_(_array(IDS, sa.Text()))
            return found
        if self._one_id:
            is_it: sa.ColumnElement[bool] = column == self(IDS)
            return is_it
        each = sa.func.json_each(self(IDS)).table_valued("value")
        is_one: sa.ColumnElement[bool] = column.in_(sa.select(each.c.value))
        return is_one


class Lookup:
    """A query about any number of ids, which go along as one parameter beside some single ones."""

    def __init__(self, build: Callable[[Names], sa.Select[Any]]) -> None:
        self._build = build

    def rows(self, connection: Connection, ids: Collection[str], **others: str) -> Sequence[Any]:
        """What is found, in the driver's own types."""
        plain = [name for name in ids if "\0" not in name]
        if connection.dialect.name != "sqlite":  # Postgres holds no NUL, so no row has such an id
            return connection.exec_driver_sql(self._for_postgres, {IDS: plain, **others}).all()
        given = {IDS: json.dumps(plain), **others}
        found = list(connection.exec_driver_sql(self._for_sqlite, given).all())
        for name in ids if len(plain) < len(ids) else ():
            if "\0" in name:  # where SQLite's JSON would end it
                single = {IDS: name, **others}
                found += connection.exec_driver_sql(self._for_sqlite_of_one, single).all()
        return found

    @cached_property
    def _for_sqlite(self) -> str:
        return _in_sql(self._build(Names(is_postgres=False)), _SQLITE())

    @cached_property
    def _for_sqlite_of_one(self) -> str:
        return _in_sql(self._build(Names(is_postgres=False, one_id=True)), _SQLITE())

    @cached_property
    def _for_postgres(self) -> str:
        return _in_sql(self._build(Names(is_postgres=True)), _POSTGRES())


def _array(name: str, kind: Any) -> sa.ColumnElement[Any]:
    element = kind.compile(dialect=_POSTGRES())
    return sa.literal_column(f"%({name})s::{element}[]", sa.ARRAY(kind))


def _in_sql(statement: Any, dialect: Any) -> str:
    """As the driver takes it: compiled once, constants in place, parameters by name."""
    text = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    return text.replace("%%(", "%(")
