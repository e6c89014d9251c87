"""A ledger on disk; `ledger_url` is the one place that says of which kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mynth_dagster.ledger import Ledger
from tests.ledger.book import Book


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """Where the ledger under test lies."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def book(ledger_url: str) -> Iterator[Book]:
    """The ledger under test, driven synchronously."""
    ledger = Ledger.open(ledger_url)
    book = Book(ledger, ledger_url)
    yield book
    book.eyes.dispose()
    ledger.close()
