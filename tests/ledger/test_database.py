"""Opening: what makes it durable, the schema, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from mynth_dagster.errors import ConfigError, LedgerUnavailableError, SchemaVersionError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim
from mynth_dagster.ledger.database import HEAD, MIGRATIONS, open_engines
from tests.factories import make_intent
from tests.releases import NEXT, next_release

_DRIVERS = {"sqlite": "sqlite", "postgres": "postgresql+psycopg"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_next_release_migrates_a_ledger_and_keeps_what_is_in_it(request, tmp_path, kind):
    """A column is added and the old file kept beside it; the id and the intents are as before."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
    before = Ledger.open(url)
    asyncio.run(before.claim(Claim(make_intent())))
    before.close()

    with next_release(tmp_path / "migrations"):
        after = Ledger.open(url)
        intents = after.read.intents_by_id([make_intent().intent_id])
        after.close()

    assert after.ledger_id == before.ledger_id
    assert len(intents) == 1
    engine = sa.create_engine(sa.make_url(url).set(drivername=_DRIVERS[kind]))
    with engine.connect() as connection:
        columns = {column["name"] for column in sa.inspect(connection).get_columns("partitions")}
    engine.dispose()
    assert "made_up" in columns
    copies = [path.name for path in tmp_path.glob("ledger.db.before-*")]
    assert copies == ([f"ledger.db.before-{NEXT}-was-{HEAD}"] if kind == "sqlite" else [])


def test_the_head_is_the_newest_migration():
    """A new migration that nobody opens ledgers with would never run."""
    assert max(path.name[:4] for path in MIGRATIONS.glob("versions/0*.py")) == HEAD


def test_sqlite_is_as_durable_as_it_can_be(sqlite_url):
    """WAL and FULL on every connection of writer and readers."""
    for engine in open_engines(sqlite_url):
        with engine.connect() as connection:
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous")
            ]
        engine.dispose()
        assert found == ["wal", 2]


def test_postgres_is_durable_whatever_its_own_settings_are(postgres_url):
    """A database that was told to answer before its log is on disk is told otherwise by us."""
    eyes = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with eyes.connect() as connection:
        name = sa.make_url(postgres_url).database
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    eyes.dispose()

    for engine in open_engines(postgres_url):
        with engine.connect() as connection:
            found = [
                connection.exec_driver_sql(f"SHOW {name}").scalar()
                for name in ("synchronous_commit", "transaction_isolation")
            ]
        engine.dispose()
        assert found == ["on", "read committed"]


def test_the_writer_takes_its_lock_at_the_start(sqlite_url):
    """BEGIN IMMEDIATE: two writers wait for each other instead of failing half-way."""
    writer, reader = open_engines(sqlite_url)
    begun = []
    sa.event.listen(writer, "before_cursor_execute", lambda *args: begun.append(args[2]))
    with writer.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
    writer.dispose()
    reader.dispose()

    assert begun[0] == "BEGIN IMMEDIATE"


@pytest.mark.parametrize("version", [f"{int(HEAD) + 1:04d}", "9999"])
def test_a_newer_ledger_is_refused(book, ledger_url, version):
    """A release that does not know the schema does not touch it."""
    book.execute("UPDATE alembic_version SET version_num = :v", v=version)

    with pytest.raises(SchemaVersionError, match=version):
        Ledger.open(ledger_url)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_new_ledger_is_made_once_by_whoever_starts_together(request, tmp_path, kind):
    """A run, a sensor and a receiver may meet an empty database at the same moment."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    if kind == "postgres":
        url = request.getfixturevalue("empty_postgres_url")
    with ThreadPoolExecutor(4) as pool:
        ledgers = list(pool.map(Ledger.open, [url] * 4))
    ids = {ledger.ledger_id for ledger in ledgers}
    for ledger in ledgers:
        ledger.close()

    assert len(ids) == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://host/db", "neither sqlite nor postgresql"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:////no/such/folder/ledger.db", "/no/such/folder does not exist"),
    ],
)
def test_a_url_that_cannot_keep_a_ledger_is_named(url, said):
    """Before anything is sent."""
    with pytest.raises(ConfigError, match=said):
        Ledger.open(url)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    """A damaged or foreign file spends nothing, and the error names it without a password."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database, and long enough to be looked at" * 90)

    with pytest.raises(LedgerUnavailableError, match="Nothing was sent"):
        Ledger.open(f"sqlite:///{path}")


def test_a_database_that_does_not_answer_is_told_without_its_password():
    """The URL is shown; the secret in it is not."""
    with pytest.raises(LedgerUnavailableError) as caught:
        Ledger.open("postgresql://user:hunter2@127.0.0.1:1/db")

    assert "hunter2" not in str(caught.value)


def test_a_ledger_that_breaks_while_it_is_read_says_so(book):
    """A reader's failure is ours, with the driver's words."""
    book.claim(make_intent())
    book.execute("ALTER TABLE intents RENAME TO gone")

    with pytest.raises(LedgerUnavailableError, match=r"cannot be read: .*intents"):
        book.ledger.read.intents_by_id(["x"])
