"""Uploaded files on SQLite and Postgres: found by content and account, while they are new."""

from __future__ import annotations

from mynth_dagster.ledger.files import Upload
from tests.factories import START_US

A, B = "a" * 64, "b" * 64


def remember(book, account: int, *uploads: Upload) -> None:
    book.run(book.ledger.save_uploads(account, uploads))


def known(book, account: int, since_us: int = START_US) -> dict[str, str]:
    return book.ledger.read.uploads(account, [A, B], since_us=since_us)


def test_an_upload_is_known_by_its_content(book):
    """And only to the account that made it."""
    remember(book, 1, Upload(A, "https://u/1", START_US))

    assert known(book, 1) == {A: "https://u/1"}
    assert known(book, 2) == {}


def test_the_newest_upload_of_a_file_counts(book):
    """Two runs may upload a file at the same moment; either URL is good."""
    remember(book, 1, Upload(A, "https://u/1", START_US), Upload(B, "https://u/2", START_US))
    remember(book, 1, Upload(A, "https://u/3", START_US + 5))

    assert known(book, 1) == {A: "https://u/3", B: "https://u/2"}


def test_an_old_upload_is_not_used(book):
    """Its URL may be dead."""
    remember(book, 1, Upload(A, "https://u/1", START_US), Upload(B, "https://u/2", START_US + 9))

    assert known(book, 1, START_US + 1) == {B: "https://u/2"}


def test_any_number_of_files_is_looked_up(book):
    """More than fit into one statement."""
    many = [Upload(f"{n:064x}", f"https://u/{n}", START_US) for n in range(6_000)]
    remember(book, 1, *many)

    hashes = [upload.content_hash for upload in many]
    assert len(book.ledger.read.uploads(1, hashes, since_us=START_US)) == 6_000
