"""What became of the files of images, in both kinds of ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download, KeptFile
from tests.factories import START_US, make_intent

INTENT = make_intent()
FILE = KeptFile("s3://shop/b/files/int-0.webp", 3_000_000_000, "ab" * 32, "webp", 1024, 768)
KEPT = Download(INTENT.intent_id, 0, START_US, FILE)
FAILED = Download(
    INTENT.intent_id, 0, START_US, code="url_expired", message="gone", http_status=404
)


@pytest.fixture
def told(book):
    """A ledger in which an intent has a partition, and what is recorded there."""
    book.open()
    book.claim(INTENT)

    def record(*downloads: Download) -> list[bool]:
        return book.run(*(book.ledger.record_download(download) for download in downloads))

    return record


def _known(book):
    return book.ledger.read.downloads_for([INTENT.intent_id]).get(INTENT.intent_id, {})


def test_a_download_is_read_as_it_was_recorded(book, told):
    """Kept and failed, each image by itself, and larger than two gigabytes."""
    second = replace(FAILED, image_index=1)

    assert told(KEPT, second) == [True, True]
    assert _known(book) == {0: KEPT, 1: second}


def test_news_raise_the_version_and_repetitions_do_not(book, told):
    """The tables of a partition are written anew only for what they would show."""
    before = book.version()

    assert told(FAILED) == [True]
    assert told(replace(FAILED, at_us=START_US + 5, message="still gone")) == [False]
    assert book.version() == before + 1
    assert told(replace(FAILED, code="truncated")) == [True]
    assert told(KEPT) == [True]
    assert book.version() == before + 3


def test_a_kept_file_stays(book, told):
    """Whatever another run says later."""
    told(KEPT)

    assert told(FAILED) == [False]
    assert told(replace(KEPT, file=replace(FILE, sha256="cd" * 32))) == [False]
    assert _known(book) == {0: KEPT}


def test_of_two_words_in_one_commit_the_file_counts(book, told):
    """Whatever their order."""
    told(KEPT, FAILED)

    assert _known(book) == {0: KEPT}


def test_a_file_that_is_kept_twice_within_one_commit_is_kept_once(book, told):
    """A group may hold the same write twice."""
    assert told(KEPT, KEPT) == [True, True]
    assert told(KEPT) == [False]
    assert _known(book) == {0: KEPT}


def test_what_was_filed_never_goes_back(book, told):
    """An older version that is told late changes nothing."""
    ledger, slice_ = book.ledger, Slice()

    assert book.run(ledger.mark_downloaded("b", slice_, 4)) == [True]
    assert book.run(ledger.mark_downloaded("b", slice_, 3)) == [False]
    assert ledger.read.partition("b", slice_).downloaded == 4
