"""Postgres where others hold locks, freeze or die, and ledgers that cannot be opened at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from mynth_dagster.cli.main import app
from mynth_dagster.errors import LedgerUnavailableError, MynthError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.database import open_engines


def hasty(url: str, **waits_ms: int) -> str:
    """The URL with limits of its own, so that a test need not wait for ours."""
    options = " ".join(f"-c {name}={wait_ms}" for name, wait_ms in waits_ms.items())
    changed = sa.make_url(url).update_query_dict({"options": options})
    return changed.render_as_string(hide_password=False)


@pytest.fixture
def holding(postgres_url) -> Callable[[str], sa.Connection]:
    """Somebody else's transaction that holds a table."""
    engine = sa.create_engine(postgres_url)
    held: list[sa.Connection] = []

    def hold(table: str) -> sa.Connection:
        connection = engine.connect()
        connection.exec_driver_sql(f"LOCK TABLE {table}")
        held.append(connection)
        return connection

    yield hold
    for connection in held:
        connection.close()
    engine.dispose()


def test_no_connection_waits_or_idles_for_ever(postgres_url):
    """Writers are rolled back when they freeze; readers, whose answers are streamed, later."""
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    found = []
    for engine in open_engines(postgres_url):
        with engine.connect() as connection:
            found.append([connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names])
        engine.dispose()

    assert found == [["10s", "1min", "30s"], ["10s", "0", "10min"]]


def test_what_the_url_says_goes_before_our_limits(postgres_url):
    """Who runs the database knows it better."""
    writer, reader = open_engines(hasty(postgres_url, lock_timeout=77))
    with writer.connect() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "77ms"
    writer.dispose()
    reader.dispose()


def test_a_write_waits_for_a_lock_as_for_an_outage(postgres_url, holding):
    """It is tried again until the other is done, and no caller sees an error."""
    other = holding("meta")
    pauses: list[float] = []

    def pause(delay_s: float) -> None:
        pauses.append(delay_s)
        if len(pauses) == 2:
            other.rollback()

    other.rollback()
    ledger = Ledger.open(hasty(postgres_url, lock_timeout=50), pause=pause)
    other = holding("meta")
    asyncio.run(ledger.set_meta("a", "b"))

    assert ledger.read.meta("a") == "b"
    assert len(pauses) == 2
    ledger.close()


def test_a_lock_that_is_never_let_go_ends_in_one_clear_error(postgres_url, holding):
    """After as long as any outage is waited for."""
    ledger = Ledger.open(hasty(postgres_url, lock_timeout=50), pause=lambda _: None)
    holding("meta")

    with pytest.raises(LedgerUnavailableError, match="lock timeout"):
        asyncio.run(ledger.set_meta("a", "b"))
    ledger.close()


@pytest.mark.parametrize("table", ["meta", "alembic_version"])
def test_a_ledger_that_is_locked_while_it_is_opened_is_waited_for(postgres_url, holding, table):
    """A migration of another process, or a frozen client, is no reason to fail."""
    other, pauses = holding(table), []

    def pause(delay_s: float) -> None:
        pauses.append(delay_s)
        other.rollback()

    Ledger.open(hasty(postgres_url, lock_timeout=50), pause=pause).close()

    assert len(pauses) == 1


def test_a_client_that_freezes_in_a_transaction_does_not_hold_the_others(postgres_url):
    """Postgres ends its session, and a write that waited for its lock goes on."""
    frozen, reader = open_engines(hasty(postgres_url, idle_in_transaction_session_timeout=50))
    ledger = Ledger.open(postgres_url)
    with frozen.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE meta")
        asyncio.run(ledger.set_meta("a", "b"))
        with pytest.raises(sa.exc.DBAPIError):
            connection.exec_driver_sql("SELECT 1")

    assert ledger.read.meta("a") == "b"
    ledger.close()
    frozen.dispose()
    reader.dispose()


def poor_role(url: str) -> str:
    return _changed(url, "CREATE ROLE poor LOGIN", username="poor")


def read_only(url: str) -> str:
    name = sa.make_url(url).database
    return _changed(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")


def _changed(url: str, statement: str, **parts: str) -> str:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    engine.dispose()
    return sa.make_url(url).set(**parts).render_as_string(hide_password=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: _changed(url, "SELECT 1", database="nowhere"), '"nowhere" does not exist'),
        (lambda url: _changed(url, "SELECT 1", username="nobody"), '"nobody" does not exist'),
        (poor_role, "permission denied for schema public"),
        (read_only, "read-only transaction"),
    ],
    ids=["database", "role", "permission", "read-only"],
)
def test_a_postgres_that_cannot_be_used_is_one_sentence(empty_postgres_url, change, said):
    """On the command line too: no traceback, and a code that says that nothing was done."""
    url = change(empty_postgres_url)

    require_one_sentence(url, said)


@pytest.mark.parametrize("mischief", ["folder", "no database", "wal is a folder", "cut off"])
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, mischief):
    """Whatever lies where the ledger should be."""
    path = tmp_path / "ledger.db"
    if mischief == "folder":
        path.mkdir()
    elif mischief == "no database":
        path.write_bytes(b"not a database, and long enough to be looked at" * 90)
    else:
        Ledger.open(f"sqlite:///{path}").close()
        spoil(path, mischief)

    require_one_sentence(f"sqlite:///{path}", "ledger")


def spoil(path: Path, mischief: str) -> None:
    if mischief == "wal is a folder":
        Path(f"{path}-wal").mkdir()
    else:
        path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    "url", ["postgresql://h:port/db", "postgresql://no-such-host.invalid/db", "sqlite:////dev/full"]
)
def test_a_url_that_leads_nowhere_is_one_sentence(url):
    """A port that is no number, a host that nobody knows, a device that is always full."""
    require_one_sentence(url, "ledger")


def require_one_sentence(url: str, said: str) -> None:
    with pytest.raises(MynthError, match=said) as caught:
        Ledger.open(url, pause=lambda _: None)
    assert "\n" not in str(caught.value)
    result = CliRunner().invoke(app, ["status", "--root", "/tmp", "--ledger", url])
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert "othing was sent" in result.output
