"""What all readers of the ledger share: running a query, and conditions on places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.errors import LedgerUnavailableError
from mynth_dagster.ledger import schema
from mynth_dagster.models.partition import Slice

_intents = schema.intents
T = TypeVar("T")

IN_MAX = 5000
"""Values in one IN list; SQLite allows 32,766 bound values in all."""


def rows_of(engine: Engine, query: sa.Select[Any], read: Callable[[Any], T]) -> Iterator[T]:
    """
    What `read` makes of each row, streamed.

    Raises:
        LedgerUnavailableError: The database failed, in the driver's words.
    """
    try:
        with engine.connect() as connection:
            result = connection.execution_options(yield_per=IN_MAX).execute(query)
            for row in result.mappings():
                yield read(row)
    except sa.exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise LedgerUnavailableError(f"the ledger cannot be read: {cause}") from error


def in_slices(slices: Iterable[Slice]) -> sa.ColumnElement[bool]:
    """An intent's place is one of these partitions."""
    by_window: dict[str, list[str]] = {}
    for slice_ in slices:
        by_window.setdefault(slice_.window, []).append(slice_.fan_out)
    windows = [
        sa.and_(_intents.c.window == window, _intents.c.fan_out.in_(fan_outs))
        for window, fan_outs in by_window.items()
    ]
    return sa.or_(sa.false(), *windows)


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many values at a time as one IN list may hold."""
    for start in range(0, len(values), IN_MAX):
        yield values[start : start + IN_MAX]
