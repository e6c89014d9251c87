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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.chunks import chunks
from mynth_dagster.clock import block_s
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.database import RetryBudget, in_our_words, is_outage
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Intent, RowKey
from mynth_dagster.models.task import Fault, ImageOutcome, Task, TaskStatus
from mynth_dagster.models.transitions import Event, IntentState, states_before

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


# Statements for a whole group of members at once.
#
# Every change of state is a compare-and-set whose row count is checked: whoever finds fewer rows
# changed than asked looks at the members one by one.


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


# What all readers of the ledger share: running a query, and conditions on places.


T = TypeVar("T")

ROWS_AT_ONCE = 500
"""As many are held of an answer that is streamed."""

IN_MAX = 5000
"""Ids that one statement is given; SQLite allows 32,766 bound values in all."""


def rows_of(engine: Engine, query: sa.Select[Any], read: Callable[[Any], T]) -> Iterator[T]:
    """
    What `read` makes of each row, streamed; waits for a database that is away for a while.

    Raises:
        LedgerUnavailableError: The database failed, in the driver's words.
    """
    patience = RetryBudget()
    while True:
        n_read = 0
        try:
            with engine.connect() as connection:
                result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
                for row in result.mappings():
                    n_read += 1
                    yield read(row)
        except sa.exc.SQLAlchemyError as error:
            pause_s = patience.next_pause_s() if is_outage(error) and n_read == 0 else None
            if pause_s is None:
                raise in_our_words(error, "the ledger cannot be read") from error
        else:
            return
        block_s(pause_s)


def looked_up(
    engine: Engine, lookup: Lookup, ids: Sequence[str], **others: str
) -> Iterator[sa.RowMapping]:
    """
    The rows that a look-up finds; waits for a database that is away for a while.

    Raises:
        LedgerUnavailableError: The database failed, in the driver's words.
    """
    for some in chunks(ids, IN_MAX):
        for row in _looked_up(engine, lookup, some, **others):
            yield row._mapping  # noqa: SLF001 - public in SQLAlchemy, whatever its name


def _looked_up(
    engine: Engine, lookup: Lookup, ids: Sequence[str], **others: str
) -> Sequence[sa.Row[Any]]:
    patience = RetryBudget()
    while True:
        try:
            with engine.connect() as connection:
                return lookup.rows(connection, ids, **others)
        except sa.exc.SQLAlchemyError as error:
            pause_s = patience.next_pause_s() if is_outage(error) else None
            if pause_s is None:
                raise in_our_words(error, "the ledger cannot be read") from error
        block_s(pause_s)


def of_accounts(accounts: Collection[int] | None) -> sa.ColumnElement[bool]:
    """An intent was sent by one of these accounts, or nobody noted by whom; None: whichever."""
    if accounts is None:
        return sa.true()
    return sa.or_(_intents.c.account.is_(None), _intents.c.account.in_(sorted(accounts)))


def in_slices(slices: Iterable[Slice] | None, table: sa.Table = _intents) -> sa.ColumnElement[bool]:
    """A row's place, by default an intent's, is one of these partitions; None: whichever."""
    if slices is None:
        return sa.true()
    places = sorted({(slice_.window, slice_.fan_out) for slice_ in slices})
    windows, fan_outs = ({place[n] for place in places} for n in range(2))
    is_one = sa.tuple_(table.c.window, table.c.fan_out).in_(places)
    # SQLite looks for pairs in every row; for single columns it goes by the index.
    near = table.c.window.in_(sorted(windows)), table.c.fan_out.in_(sorted(fan_outs))
    return sa.and_(*near, is_one)


# Rows of the ledger as values, and back.


_PLAIN = tuple(
    field.name for field in fields(Intent) if field.name not in ("row", "state", "remote_status")
)

INTENT_COLUMNS = (*_PLAIN, "batch", "window", "request_key", "state", "remote_status")
"""The columns of `schema.intents` that an intent fills."""


def intent_to_row(intent: Intent) -> dict[str, Any]:
    """An intent as a row of `INTENT_COLUMNS`."""
    row = {name: getattr(intent, name) for name in _PLAIN}
    row["batch"] = intent.row.batch
    row["window"] = intent.row.window
    row["request_key"] = intent.row.request_key
    row["state"] = intent.state.value
    row["remote_status"] = intent.remote_status.value if intent.remote_status else None
    return row


def intent_from_row(row: Mapping[Any, Any]) -> Intent:
    """One row of `schema.intents`."""
    status = row["remote_status"]
    return Intent(
        row=RowKey(row["batch"], row["window"], row["request_key"]),
        state=IntentState(row["state"]),
        remote_status=TaskStatus(status) if status else None,
        **{name: row[name] for name in _PLAIN},
    )


def task_to_json(task: Task) -> str:
    """A finished task as stored in `schema.tasks.details`."""
    # Not `asdict`, which copies every value in depth: this is done for every task.
    stored = {
        **{name: cell for name, cell in vars(task).items() if name != "prompt_asked"},
        "faults": [vars(fault) for fault in task.faults],
        "images": [_stored(image) for image in task.images],
    }
    return json.dumps(stored, ensure_ascii=False, separators=(",", ":"))


def _stored(image: ImageOutcome) -> dict[str, Any]:
    return {**vars(image), "fault": vars(image.fault) if image.fault else None}


def task_from_json(text: str) -> Task:
    """The inverse of `task_to_json`."""
    stored = json.loads(text)
    stored["status"] = TaskStatus(stored["status"])
    stored["faults"] = tuple(Fault(**fault) for fault in stored["faults"])
    stored["images"] = tuple(_image(image) for image in stored["images"])
    return Task(**stored)


def _image(stored: dict[str, Any]) -> ImageOutcome:
    fault = stored.pop("fault")
    return ImageOutcome(**stored, fault=Fault(**fault) if fault else None)
