"""
The database: engines, durability settings, retries, and the schema at its newest version.

SQLite: WAL, `synchronous=FULL`, explicit `BEGIN IMMEDIATE` for the writer.
Postgres: READ COMMITTED, `synchronous_commit=on`, and limits on how long anything may wait.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine, make_url

from mynth_dagster.clock import Instant, SystemClock, block_s
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.errors import ConfigError, LedgerUnavailableError, SchemaVersionError
from mynth_dagster.extras import require_extra
from mynth_dagster.ledger import schema
from mynth_dagster.limits import LEDGER_OUTAGE_MAX_S

# Which failures of a database pass by themselves, and how long they are waited for.


_PASSING = ("locked", "busy", "full", "disk i/o", "unable to open", "readonly")
"""Parts of SQLite's messages for faults that another writer, or free space, may end."""

T = TypeVar("T")
_LOCKED = ("55P03", "57014", "40P01")
"""Postgres: a lock or a statement took too long, or two waited for each other."""

OPENING_MAX_S = 45.0
"""Nothing is at stake yet, and a frozen client is rolled back after 30 seconds."""

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0
_elapsed_s = SystemClock().elapsed_s


def is_outage(error: BaseException) -> bool:
    """Whether the same statement may succeed a little later."""
    if isinstance(error, sa.exc.TimeoutError):
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return False
    is_sqlite = type(error.orig).__module__.partition(".")[0] == "sqlite3"
    return not is_sqlite or any(word in str(error.orig).lower() for word in _PASSING)


class RetryBudget:
    """
    How often and how long to wait for an unreachable database; begins when it is made.

    If the database hangs and does not refuse, a try may take long by itself: its time counts.
    """

    def __init__(
        self,
        max_s: float = LEDGER_OUTAGE_MAX_S,
        elapsed_s: Callable[[], float] = _elapsed_s,
    ) -> None:
        self._max_s = max_s
        self._elapsed_s = elapsed_s
        self._began_s = elapsed_s()
        self._paused_s = 0.0
        self._pause_s = PAUSE_MIN_S

    def next_pause_s(self) -> float | None:
        """Return the seconds to wait before the next try, or None if the budget is used up."""
        left_s = self._max_s - max(self._paused_s, self._elapsed_s() - self._began_s)
        if left_s <= 0:
            return None
        pause_s = min(self._pause_s, left_s)
        self._paused_s += pause_s
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)
        return pause_s


def until_unlocked(call: Callable[[], T], pause: Callable[[float], None]) -> T:
    """Call a function, and try again for a while if another transaction is in its way."""
    patience = RetryBudget(OPENING_MAX_S)
    while True:
        try:
            return call()
        except sa.exc.SQLAlchemyError as error:
            pause_s = patience.next_pause_s() if _is_locked(error) else None
            if pause_s is None:
                raise
        pause(pause_s)


def _is_locked(error: sa.exc.SQLAlchemyError) -> bool:
    orig = getattr(error, "orig", None)
    message = str(orig).lower()
    return getattr(orig, "sqlstate", None) in _LOCKED or "locked" in message or "busy" in message


def in_our_words(error: Exception, message: str) -> Exception:
    """Turn a database's failure into an error of ours, with the driver's own message."""
    if not isinstance(error, sa.exc.SQLAlchemyError):
        return error
    cause = getattr(error, "orig", None) or error
    unavailable = LedgerUnavailableError(f"{message}: {cause}")
    unavailable.__cause__ = error
    return unavailable


HEAD = "0001"
"""The newest migration; a test compares it with the migrations folder."""
MIGRATIONS = Path(__file__).parent / "migrations"

BUSY_TIMEOUT_MS = 30_000
CACHE_KIB = 800
"""The cache of each SQLite connection; the operating system caches the rest."""
_HANGING = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Named as libpq has them: seconds, but milliseconds for the last."""
_WRITER_WAITS = {
    "lock_timeout": 10_000,
    "statement_timeout": 60_000,
    "idle_in_transaction_session_timeout": 30_000,
}
"""
Named as Postgres has them, in milliseconds: a client that died or froze within a transaction is
rolled back, and until then others that wait for its locks try again, as after an outage.
"""
_READER_WAITS = {"lock_timeout": 10_000, "idle_in_transaction_session_timeout": 600_000}
"""Results are streamed to consumers that may be slow, so readers may idle for longer."""
_MIGRATION_WAITS = {"lock_timeout": 60_000, "statement_timeout": 0}
_MIGRATION_LOCK = 0x6D796E7468  # "mynth": one process at a time changes the schema


def open_engines(url: str, pause: Callable[[float], None] = block_s) -> tuple[Engine, Engine]:
    """
    Open one engine for the only writer of this process, and one for its readers.

    Raises:
        ConfigError: Not a SQLite or Postgres URL, the file's folder does not exist, or the driver
            is not installed.
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
    Turn every failure while a ledger is opened into an error of one sentence.

    Raises:
        LedgerUnavailableError: With the message of the driver, or of the system.
    """
    try:
        yield
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        message = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
        shown = make_url(url).render_as_string(hide_password=True)
        raise LedgerUnavailableError(
            f"the ledger at {shown} cannot be opened: {message}. Nothing was sent."
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
    """Return the time-outs after which a silent Postgres is unreachable; the URL's come first."""
    return {name: value for name, value in _HANGING.items() if name not in url.query}


def _postgres_engine(url: sa.URL, waits: Mapping[str, int], **pool: int) -> Engine:
    """Make an engine that is durable whatever the server's settings, and gives up if it hangs."""
    require_extra("postgres", "ledger_url")
    engine = sa.create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        connect_args=hanging_settings(url),
        **pool,
    )
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
        found = _schema_version(connection)
        if found is None:
            _create(connection)
        elif found != HEAD:  # else another process was faster
            _migrate(connection)
            reach(CrashPoint.MIGRATING)


def _create(connection: Connection) -> None:
    """Create a new ledger, as the newest migration would leave an older one."""
    schema.METADATA.create_all(connection)
    if not is_postgres(connection):
        connection.execute(sa.insert(schema.meta).values(key=SEQ, value="0"))
    connection.execute(sa.insert(schema.alembic_version).values(version_num=HEAD))


def _back_up(path: Path, version: str) -> None:
    """Copy the ledger beside itself; an earlier copy of that version is kept."""
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
    # Imported only where a schema is changed: it costs a third of a second.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


# Writing many rows: one statement for all, and one by one only where not all can be changed.


def insert_into(connection: Connection, table: sa.Table) -> Any:
    """Return the dialect's insert, which alone has ON CONFLICT."""
    return (postgresql.insert if is_postgres(connection) else sqlite.insert)(table)


def execute_many(
    connection: Connection, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Run a statement once for each row; return how many rows were changed or inserted."""
    if not rows:
        return 0
    options = {"preserve_rowcount": True}
    return connection.execute(statement, rows, execution_options=options).rowcount


def execute_all(
    connection: Connection, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]
) -> bool:
    """Run a statement for all rows or for none; return whether each changed or inserted one."""
    # Not `begin_nested`: SQLite ends the whole transaction on a full disk, and to go back to a
    # savepoint that is gone would fail with an error that hides the first.
    connection.exec_driver_sql("SAVEPOINT many")
    is_done = execute_many(connection, statement, rows) == len(rows)
    connection.exec_driver_sql(f"{'RELEASE' if is_done else 'ROLLBACK TO'} SAVEPOINT many")
    return is_done


def execute_each(
    connection: Connection, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]
) -> list[bool]:
    """
    Run a statement for each row; return for each whether it changed or inserted one.

    Every change of state is a compare-and-set. Nearly always all of a group succeed, which the
    count of rows shows; else they are run one by one to see which.
    """
    if len(rows) > 1 and execute_all(connection, statement, rows):
        return [True] * len(rows)
    return [execute_many(connection, statement, [row]) == 1 for row in rows]


# Running numbers, and the clock that waits are measured with.
#
# Running numbers order the events of one ledger whatever the clocks of its writers show.


SEQ = "seq"
"""The key of SQLite's newest running number in `meta`."""

_NEXT_SEQ = (
    "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) "
    "WHERE key = 'seq' RETURNING value"
)
_NEWEST_SEQ = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM mynth_seq"
DATABASE_NOW = sa.select(
    sa.text("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us")
)


def next_seq(connection: Connection) -> int:
    """Return a number greater than all before it in this ledger."""
    if is_postgres(connection):
        return int(connection.execute(sa.select(schema.SEQUENCE.next_value())).scalar_one())
    return int(connection.exec_driver_sql(_NEXT_SEQ).scalar_one())


def newest_seq(connection: Connection) -> int:
    """Return the greatest number so far; 0 in a new ledger."""
    if is_postgres(connection):
        return int(connection.exec_driver_sql(_NEWEST_SEQ).scalar_one())
    query = sa.select(schema.meta.c.value).where(schema.meta.c.key == SEQ)
    return int(connection.execute(query).scalar_one())


def instant_of(connection: Connection, ours: Instant) -> Instant:
    """Return the present time: the database's where hosts share it, else this machine's."""
    if not is_postgres(connection):
        return ours
    return Instant(int(connection.execute(DATABASE_NOW).scalar_one()))


def is_postgres(connection: Connection) -> bool:
    """Whether the ledger is on Postgres, so that hosts may share it and its clock."""
    return connection.dialect.name == "postgresql"
