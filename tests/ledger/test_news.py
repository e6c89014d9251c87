"""When a partition has something new to show, and who may say that it is shown."""

from __future__ import annotations

import pytest

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import Stopped
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.models.transitions import Event, IntentState
from tests.factories import START_US, make_intent, make_task
from tests.ledger.book import status

STATES = list(IntentState)


def test_only_what_has_news_for_the_tables_raises_a_version(book):
    """Claims, first observations, endings and readings that changed something; nothing else."""
    book.open("000", "001")
    intent = make_intent(fan_out="000")
    assert (book.version("000"), book.version("001")) == (1, 1)
    seen = [book.version("000")]

    def news(operation) -> bool:
        operation()
        seen.append(book.version("000"))
        return seen[-1] > seen[-2]

    assert news(lambda: book.claim(intent))
    assert not news(lambda: book.claim(intent))
    assert news(lambda: book.end(intent, Event.LOSE_SIGHT))
    assert not news(lambda: book.end(intent, Event.REJECT))
    assert news(lambda: book.sight(intent))
    assert not news(lambda: book.sight(intent))
    assert not news(lambda: book.sight(intent, source="webhook"))
    assert news(lambda: book.sight(intent, "tsk_2"))
    assert not news(lambda: book.sight(intent, "tsk_2"))
    assert not news(lambda: book.observe(status("tsk_1", TaskStatus.COMPLETED)))
    assert news(lambda: book.read(intent, make_task()))
    assert not news(lambda: book.read(intent, make_task()))
    assert news(lambda: book.read(intent, make_task("tsk_2")))
    assert not news(lambda: book.open("000", "001"))
    assert book.version("001") == 1


def test_news_go_to_the_partition_where_the_row_is_now(book):
    """A row may have moved to another shard since its holder looked."""
    book.open("000", "001")
    intent = make_intent(fan_out="000")
    book.claim(intent)
    book.run(book.ledger.move_intents([(intent.intent_id, "001")]))
    before = book.version("000"), book.version("001")

    book.sight(intent)

    assert (book.version("000"), book.version("001")) == (before[0], before[1] + 1)


def test_moving_rows_is_news_for_both_partitions_and_for_no_other_window(book):
    """The one loses a row and the other gains it."""
    book.open("000", "001")
    other = Slice(window="2026-11-22", fan_out="000")
    book.run(book.ledger.open_partitions("b", [other], "run 1"))
    intent = make_intent(fan_out="000")
    book.claim(intent)
    before = book.version("000"), book.version("001")

    book.run(book.ledger.move_intents([(intent.intent_id, "001")]))

    assert book.at(intent).fan_out == "001"
    assert (book.version("000"), book.version("001")) == (before[0] + 1, before[1] + 1)
    assert book.ledger.read.partition("b", other).version == 1


def test_a_partition_is_behind_from_the_start(book):
    """A partition without a single row to send still gets its tables."""
    book.open()

    row = book.ledger.read.partition("b", Slice())

    assert row.collected < row.version


@pytest.mark.parametrize(
    ("version", "marked", "collected"), [(3, True, 3), (2, True, 2), (1, False, 2)]
)
def test_tables_mark_what_they_show_and_never_go_back(book, version, marked, collected):
    """Compare-and-set: an older writer does not undo a newer one."""
    book.open()
    book.run(book.ledger.mark_collected("b", Slice(), 2))

    assert book.run(book.ledger.mark_collected("b", Slice(), version)) == [marked]
    assert book.ledger.read.partition("b", Slice()).collected == collected


def test_tables_of_a_partition_that_nobody_sent_into_are_as_new_as_any(book):
    """Nothing is known of it, and nothing is kept."""
    assert book.run(book.ledger.mark_collected("b", Slice(), 0)) == [True]
    assert book.ledger.read.partition("b", Slice()) is None


def test_the_end_of_a_run_is_news_only_where_its_reason_changed(book):
    """Rows not sent are shown with the reason why the last run stopped."""
    book.open()

    def close(code):
        stop = Stopped(code, "Why.", Instant(START_US)) if code else None
        book.run(book.ledger.close_partitions("b", [Slice()], stop))
        return book.version()

    versions = [close(code) for code in (None, "unauthorized", "unauthorized", None)]

    assert versions == [1, 2, 2, 3]
    assert book.ledger.read.partition("b", Slice()).submitter is None
