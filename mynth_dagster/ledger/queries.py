"""What all readers of the ledger share: running a query, and conditions on places."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.chunks import chunks
from mynth_dagster.clock import block_s
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.outage import Patience, in_our_words, is_outage
from mynth_dagster.ledger.statements import Lookup
from mynth_dagster.models.batch import Slice

_intents = schema.intents
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
    patience = Patience()
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
    patience = Patience()
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
