"""
Opening the database: engines, durability settings, and the schema at its newest version.

SQLite: WAL, `synchronous=FULL`, explicit `BEGIN IMMEDIATE` for the writer.
Postgres: READ COMMITTED, `synchronous_commit=on`, and limits on how long anything may wait.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url

from mynth_dagster.clock import block_s
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.errors import ConfigError, LedgerUnavailableError, SchemaVersionError
from mynth_dagster.ledger.outage import until_unlocked

HEAD = "0012"
"""The newest migration; a test compares it with the migrations folder."""

BUSY_TIMEOUT_MS = 30_000
CACHE_KIB = 800
"""Of each SQLite connection; what it does not hold, the operating system does."""
_HANGING = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""In libpq's words: seconds, but milliseconds for the last."""
_WRITER_WAITS = {
    "lock_timeout": 10_000,
    "statement_timeout": 60_000,
    "idle_in_transaction_session_timeout": 30_000,
}
"""
In Postgres's words, milliseconds: a client that died or froze within a transaction is rolled back,
and whoever waits for its locks tries again, as after an outage, until it is.
"""
_READER_WAITS = {"lock_timeout": 10_000, "idle_in_transaction_session_timeout": 600_000}
"""Answers are streamed to who may be slow, so that readers may idle for longer."""
_MIGRATION_WAITS = {"lock_timeout": 60_000, "statement_timeout": 0}
_MIGRATION_LOCK = 0x6D796E7468  # "mynth": one process at a time changes the schema


def open_engines(url: str, pause: Callable[[float], None] = block_s) -> tuple[Engine, Engine]:
    """
    One engine for the only writer of this process, one for its readers.

    Raises:
        ConfigError: Not a SQLite or Postgres URL, or the file's folder does not exist.
        LedgerUnavailableError: The database does not answer.
        SchemaVersionError: A newer release wrote it.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        writer = _sqlite_engine(parsed, begin="BEGIN IMMEDIATE", pool_size=1)
        reader = _sqlite_engine(parsed, begin="BEGIN", pool_size=4)
    else:
        writer = _postgres_engine(parsed, _WRITER_WAITS, pool_size=1, max_overflow=0)
        reader = _postgres_engine(parsed, _READER_WAITS, pool_size=4, max_overflow=4)
    try:
        with opening(url):
            until_unlocked(partial(_bring_up_to_date, writer), pause)
    except BaseException:
        writer.dispose()
        raise
    return writer, reader


@contextmanager
def opening(url: str) -> Iterator[None]:
    """
    Whatever a database says to a ledger that is being opened becomes one sentence.

    Raises:
        LedgerUnavailableError: With what the driver, or the disk, said.
    """
    try:
        yield
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
        shown = make_url(url).render_as_string(hide_password=True)
        raise LedgerUnavailableError(
            f"the ledger at {shown} cannot be opened: {said}. Nothing was sent."
        ) from error


def _parse(url: str) -> sa.URL:
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError("ledger_url", "not a database URL such as sqlite:///ledger.db") from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError("ledger_url", f"{backend!r} is neither sqlite nor postgresql")
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError("ledger_url", "a ledger must outlive the process: name a file")
    file = Path(str(parsed.database)).absolute()
    if not os.path.isdir(file.parent):  # noqa: PTH112 - Path's raises where it may not look
        raise ConfigError("ledger_url", f"the folder {file.parent} does not exist")
    if os.path.isdir(file):  # noqa: PTH112
        raise ConfigError("ledger_url", f"{file} is a folder: name a file in it")
    return parsed


def _sqlite_engine(url: sa.URL, *, begin: str, pool_size: int) -> Engine:
    engine = sa.create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        pool_size=pool_size,
        max_overflow=0,
        poolclass=sa.QueuePool,
    )

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"cache_size=-{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin_explicitly(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def hanging_settings(url: sa.URL) -> dict[str, int]:
    """What makes a silent Postgres count as away; what the URL says itself goes before."""
    return {name: value for name, value in _HANGING.items() if name not in url.query}


def _postgres_engine(url: sa.URL, waits: Mapping[str, int], **pool: int) -> Engine:
    """Durable whatever the server's own settings are; a server that hangs is given up."""
    try:
        engine = sa.create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            connect_args=hanging_settings(url),
            **pool,
        )
    except ImportError:
        missing = "the driver for Postgres is not installed: pip install 'mynth-dagster[postgres]'"
        raise ConfigError("ledger_url", missing) from None
    options = str(url.query.get("options", ""))
    ours = {name: wait_ms for name, wait_ms in waits.items() if name not in options}

    @event.listens_for(engine, "connect")
    def set_parameters(connection: Any, _: Any) -> None:
        connection.autocommit = True
        connection.execute("SET synchronous_commit = on")
        for name, wait_ms in ours.items():
            connection.execute(f"SET {name} = {wait_ms}")
        connection.autocommit = False

    return engine


def _bring_up_to_date(engine: Engine) -> None:
    with engine.connect() as connection:
        found = _schema_version(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise SchemaVersionError(found, HEAD)
    if found is not None and engine.dialect.name == "sqlite":
        _back_up(Path(str(engine.url.database)), found)
        reach(CrashPoint.BACKED_UP)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            for name, wait_ms in _MIGRATION_WAITS.items():
                connection.exec_driver_sql(f"SET LOCAL {name} = {wait_ms}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        if _schema_version(connection) != HEAD:  # else another process was faster
            _migrate(connection)
            reach(CrashPoint.MIGRATING)


def _back_up(path: Path, version: str) -> None:
    """A copy of the ledger as it was, beside it; an earlier copy of that version is kept."""
    copy = path.with_name(f"{path.name}.before-{HEAD}-was-{version}")
    if copy.exists():
        return
    temporary = copy.with_name(f".{copy.name}.{os.getpid()}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(temporary)) as target:
        source.backup(target)
    temporary.replace(copy)


def _schema_version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _migrate(connection: Connection) -> None:
    # Imported only where a schema is made or changed: it costs a third of a second.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
