"""The ledger as a whole: what it keeps for good, what a process that is gone left, and how much."""

from __future__ import annotations

import pytest

from mynth_dagster.errors import LedgerUnavailableError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim
from mynth_dagster.ledger.observations import Attachment
from mynth_dagster.ledger.queries import Moving
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.models.transitions import Event, IntentState
from tests.factories import make_intent, make_task
from tests.ledger.book import ending, status

STATES = list(IntentState)


def test_rows_of_a_gone_process_become_unresolved_after_their_time(book):
    """Past `send_by` and the POST's deadline, whoever owned them; others and other windows stay."""
    book.open("000", "001")
    old, done = make_intent("old", fan_out="000"), make_intent("done", fan_out="000")
    young, elsewhere = make_intent("young", fan_out="001"), make_intent("old", window="w")
    for intent in (old, young, elsewhere, done):
        book.claim(intent)
        book.set_send_by(intent, age_s=59 if intent is young else 61)
    book.sight(done)
    before = book.version("000"), book.version("001")

    assert book.expire(grace_s=60) == 1
    states = [book.state(intent).value for intent in (old, young, elsewhere, done)]
    assert states == ["unresolved", "sending", "sending", "accepted"]
    assert book.at(old).reason == "interrupted"
    assert (book.version("000"), book.version("001")) == (before[0] + 1, before[1])


def test_an_answer_that_comes_after_the_row_was_given_up_still_counts(book):
    """A frozen process wakes up with an id: the row is accepted."""
    intent = make_intent()
    book.claim(intent)
    book.set_send_by(intent, age_s=61)
    assert book.expire(grace_s=60) == 1

    assert book.sight(intent) is Attachment.ATTACHED
    assert book.state(intent) is IntentState.ACCEPTED


def test_a_status_is_noted_only_for_tasks_that_are_not_read(book):
    """What Mynth said last makes a task due to be read; a read one is done with."""
    intent = make_intent()
    book.claim(intent)
    book.sight(intent)
    book.observe(status("tsk_1", TaskStatus.COMPLETED))
    assert [task.task_id for task in book.ledger.read.unread("b", [Slice()], None)] == ["tsk_1"]

    book.read(intent, make_task())

    assert book.ledger.read.unread("b", [Slice()], None) == []


def test_a_key_has_one_number(book):
    """Base URL and fingerprint name it; the same names give the same number."""

    def number(base_url: str, fingerprint: str) -> int:
        names = {"user_id": "user_1", "key_id": ""}
        call = book.ledger.ensure_account(base_url, fingerprint, **names, now_us=1)
        return int(book.run(call)[0])

    first = number("https://a", "f1")

    assert number("https://a", "f1") == first
    assert len({first, number("https://a", "f2"), number("https://b", "f1")}) == 3
    assert [row.user_id for row in book.ledger.read.accounts()] == ["user_1"] * 3


def test_facts_are_remembered_across_openings(book, ledger_url):
    """The ledger keeps its id and its last verdicts."""
    book.run(book.ledger.set_meta("revision:x", "2026-04"))
    book.run(book.ledger.set_meta("revision:x", "2026-08"))

    again = Ledger.open(ledger_url)
    try:
        assert again.ledger_id == book.ledger.ledger_id
        assert again.read.meta("revision:x") == "2026-08"
        assert again.read.meta("unknown") is None
    finally:
        again.close()


def test_sql_in_names_is_stored_literally(book):
    """Ids, keys and messages are data."""
    nasty = "'; DROP TABLE intents; --"
    intent = make_intent(nasty, batch=nasty, window=nasty, fan_out=nasty)
    book.claim(intent)
    book.run(book.ledger.record_ending(ending(intent, Event.REJECT, error_code=nasty)))

    assert book.at(intent).error_code == nasty
    assert list(book.ledger.read.intents_for(nasty, nasty, [nasty])) == [nasty]


def test_more_rows_than_one_query_takes_are_all_found(book):
    """Look-ups go in chunks."""
    intents = [make_intent(f"p{n}") for n in range(5_100)]
    book.run(*(book.ledger.claim(Claim(intent)) for intent in intents))

    found = book.ledger.read.intents_for("b", "", [intent.prompt_id for intent in intents])

    assert len(found) == 5_100


def test_a_closed_ledger_says_so(book):
    """No write is accepted that would never be committed."""
    book.ledger.close()

    with pytest.raises(LedgerUnavailableError, match="closed"):
        book.claim(make_intent())


def test_more_partitions_than_an_expression_may_be_deep(book):
    """Three thousand windows: conditions on places are one list, not one term each."""
    intent = make_intent("p", window="2026-11-20")
    book.claim(intent)
    book.sight(intent)
    slices = [Slice(f"day {n}") for n in range(3_000)] + [Slice("2026-11-20")]

    assert len(book.ledger.read.unread_surplus("b", slices, None)) == 0
    assert book.ledger.read.counts("b", slices)[0].n_intents == 1
    assert book.ledger.read.moving("b", 0, None) == {("2026-11-20", ""): Moving(n_pending=1)}
