"""
A ledger of each kind: SQLite on disk, and a real Postgres started from a wheel.

`ledger_url` is the one place that says of which kind; a test that is about one database alone
asks for `sqlite_url` or `postgres_url`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from mynth_dagster.ledger import Ledger
from tests.ledger.book import Book
from tests.ledger.postgres import running_postgres

TEMPLATE = "ledger_template"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file of its own."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """One server for all tests of a process, with an empty ledger to copy."""
    with running_postgres() as server:
        _execute(server.url, f"CREATE DATABASE {TEMPLATE}")
        Ledger.open(_in(server.url, TEMPLATE)).close()
        yield server.url


@pytest.fixture
def postgres_url(postgres: sa.URL) -> Iterator[str]:
    """A database of its own."""
    with _database(postgres, TEMPLATE) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres: sa.URL) -> Iterator[str]:
    """A database in which no ledger was made yet."""
    with _database(postgres, "template1") as url:
        yield url


@contextmanager
def _database(server: sa.URL, template: str) -> Iterator[str]:
    """A copy that goes away at once: three hundred files each, all together take long to delete."""
    name = f"ledger_{uuid.uuid4().hex}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield _in(server, name)
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: sa.URL, statement: str) -> None:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def _in(server: sa.URL, database: str) -> str:
    return server.set(database=database).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """Where the ledger under test lies; each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def book(ledger_url: str) -> Iterator[Book]:
    """The ledger under test, driven synchronously."""
    ledger = Ledger.open(ledger_url)
    book = Book(ledger, ledger_url)
    yield book
    book.eyes.dispose()
    ledger.close()
