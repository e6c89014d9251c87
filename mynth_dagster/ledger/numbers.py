"""
Running numbers and the time that waits are measured in.

Numbers order what happened in one ledger whatever the clocks of its writers say.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema

SEQUENCE = "mynth_numbers"

_RAISE = (
    "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) "
    "WHERE key = 'number' RETURNING value"
)
_DATABASE_NOW_US = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


def next_number(connection: Connection) -> int:
    """A number greater than all before it in this ledger."""
    if is_postgres(connection):
        return int(connection.exec_driver_sql(f"SELECT nextval('{SEQUENCE}')").scalar_one())
    return int(connection.exec_driver_sql(_RAISE).scalar_one())


def newest_number(connection: Connection) -> int:
    """The greatest number given so far; 0 in a new ledger."""
    if is_postgres(connection):
        newest = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {SEQUENCE}"  # noqa: S608
        return int(connection.exec_driver_sql(newest).scalar_one())
    query = sa.select(schema.meta.c.value).where(schema.meta.c.key == "number")
    return int(connection.execute(query).scalar_one())


def instant_of(connection: Connection, ours: Instant) -> Instant:
    """Now: the database's time where hosts share it, else this machine's."""
    if not is_postgres(connection):
        return ours
    return Instant(int(connection.exec_driver_sql(_DATABASE_NOW_US).scalar_one()))


def is_postgres(connection: Connection) -> bool:
    """Whether hosts may share this ledger, and with it one clock."""
    return connection.dialect.name == "postgresql"
