"""Rows in doubt: when the doubt began, how it is ended, and what a database's clock has to say."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from itertools import pairwise

import pytest

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import Stopped
from mynth_dagster.ledger.observations import WALKS_KEPT
from mynth_dagster.ledger.queries import Resting
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Walk
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.models.transitions import TRANSITIONS, Event, IntentState
from tests.factories import START_US, make_intent
from tests.ledger.book import Book, missing, status

HOUR_US = 3_600_000_000


def doubts(book: Book, *states: IntentState):
    return book.ledger.read.unresolved("b", [Slice()], states or [IntentState.UNRESOLVED])


def in_doubt(book: Book, key: str = "p1"):
    intent = make_intent(key)
    book.claim(intent)
    book.end(intent, Event.LOSE_SIGHT)
    return intent


def test_a_doubt_tells_when_it_began_and_who_sent(book):
    """The moment on the ledger's own clock, after the claim by its running number."""
    book.open()
    intent = make_intent()
    book.try_claim(intent)
    assert [doubt.since for doubt in doubts(book, IntentState.SENDING)] == [None]

    book.end(intent, Event.LOSE_SIGHT)

    (doubt,) = doubts(book)
    claimed = book.query("SELECT claimed_seq FROM intents")[0][0]
    assert (doubt.account, doubt.claimed_seq) == (1, claimed)
    assert doubt.unresolved_seq > claimed
    assert doubt.since is not None
    assert doubt.since.surely_elapsed_us(book.now) < 2 * HOUR_US


def test_a_row_is_cleared_only_while_it_is_in_that_doubt(book):
    """A task that came meanwhile, or a later attempt, is left alone."""
    book.open()
    in_doubt(book)
    stale = doubts(book)[0]

    assert book.run(
        book.ledger.mark_not_accepted(
            [replace(stale, unresolved_seq=stale.unresolved_seq + 1)], "x"
        )
    ) == [0]
    assert book.run(book.ledger.mark_not_accepted([stale], "looked twice")) == [1]
    assert book.state(stale.intent) is IntentState.NOT_ACCEPTED
    assert book.at(stale.intent).error_message == "looked twice"
    assert book.run(book.ledger.mark_not_accepted([stale], "again")) == [0]


@pytest.mark.parametrize("state", list(IntentState))
def test_clearing_keeps_to_the_table_of_transitions(book, state):
    """Only an unresolved row can be cleared, whoever believes otherwise."""
    book.open()
    in_doubt(book)
    stale = doubts(book)[0]
    book.execute("UPDATE intents SET state = :state", state=state.value)

    cleared = book.run(book.ledger.mark_not_accepted([stale], "x"))

    assert cleared == [int((state, Event.PROVE_ABSENT) in TRANSITIONS)]


def test_a_row_not_accepted_can_be_sent_again_and_late_evidence_still_counts(book):
    """The attempt is raised; a task of the first one that turns up then is a further task."""
    book.open()
    intent = in_doubt(book)
    book.run(book.ledger.mark_not_accepted(doubts(book), "x"))

    assert book.claim(replace(intent, attempt=2), from_attempt=1)
    assert doubts(book) == []
    book.sight(replace(intent, attempt=2), "tsk_new")
    assert book.sight(intent, "tsk_old").value == "surplus"


def test_walks_are_kept_by_account_and_only_the_newest(book):
    """Oldest first; a list that is walked for ever does not fill the ledger."""
    walks = [
        Walk(account, 100, Instant(n, n, "boot/1"), Instant(n + 1), {"int_a": f"no, {n}"})
        for n in range(WALKS_KEPT + 5)
        for account in (1, 2)
    ]
    for walk in walks:
        book.run(book.ledger.record_walk(walk))

    found = book.ledger.read.walks(1)

    assert found == [walk for walk in walks if walk.account == 1][5:]


def test_tasks_are_placed_in_time_by_running_numbers(book):
    """Younger than their claim, older than each later one, whatever the clocks say."""
    book.open()
    for n in range(3):
        intent = make_intent(f"p{n}")
        book.claim(intent)
        book.sight(intent, f"tsk_{n}")

    reader = book.ledger.read
    known = reader.known_tasks([*(f"tsk_{n}" for n in range(3)), "tsk_other"])

    first, second, third = (known[f"tsk_{n}"] for n in range(3))
    assert first.claimed_seq <= first.accepted_seq < second.claimed_seq
    assert second.claimed_seq <= second.accepted_seq < third.claimed_seq
    assert len(known) == 3
    assert reader.tasks_between(1, first.accepted_seq, third.claimed_seq) == ["tsk_1"]
    assert sorted(reader.tasks_until(1, second.accepted_seq)) == ["tsk_0", "tsk_1"]
    assert reader.tasks_until(2, 100) == []


def test_a_task_of_a_later_attempt_may_be_older_than_its_claim(book):
    """It may be that of an earlier attempt, found late: it is no witness of a later time."""
    book.open()
    intent = in_doubt(book)
    book.run(book.ledger.mark_not_accepted(doubts(book), "x"))
    again = replace(intent, attempt=2)
    book.claim(again, from_attempt=1)
    book.sight(again, "tsk_old")

    assert book.ledger.read.known_tasks(["tsk_old"])["tsk_old"].claimed_seq == 0


def test_why_a_row_is_held_is_kept_and_makes_its_tables_old_once(book):
    """A walk that says the same again changes nothing; an answer that comes ends it."""
    book.open()
    intent = in_doubt(book)

    def walked(said: str) -> int:
        walk = Walk(1, 100, book.now, book.now, {intent.intent_id: said})
        book.run(book.ledger.record_walk(walk))
        return book.query("SELECT version FROM partitions")[0][0]

    versions = [walked(said) for said in ("no later task", "no later task", "a hole")]

    assert book.at(intent).held_because == "a hole"
    assert [b - a for a, b in pairwise(versions)] == [0, 1]
    book.sight(intent, "tsk_1")
    assert book.at(intent).held_because is None


def test_a_task_with_another_hash_is_a_dispute(book):
    """It proves nothing, is kept to be seen, and no walk clears the row any more."""
    book.open()
    intent = in_doubt(book)

    book.run(book.ledger.record_dispute(intent.intent_id, "tsk_odd", Instant(START_US)))
    book.run(book.ledger.record_dispute(intent.intent_id, "tsk_odd", Instant(START_US)))

    assert [doubt.is_disputed for doubt in doubts(book)] == [True]
    assert book.state(intent) is IntentState.UNRESOLVED


def accepted(book: Book):
    book.open()
    intent = make_intent()
    book.claim(intent)
    book.sight(intent)
    return intent


def look(book: Book, intent, *, is_missing: bool = True, ours: Instant) -> bool:
    seen = missing(intent, "tsk_1", ours) if is_missing else status("tsk_1", TaskStatus.PENDING)
    (observed,) = book.observe(seen)
    return observed.is_lost


def test_a_task_is_lost_after_three_looks_over_an_hour(book):
    """Two are not enough, nor is less than an hour, nor a wall clock that was set forward."""
    intent = accepted(book)
    now = Instant(START_US, 0, "boot")
    set_forward = Instant(START_US + 5 * HOUR_US, HOUR_US // 2, "boot")

    assert [look(book, intent, ours=at) for at in (now, now, now, set_forward)] == [0, 0, 0, 0]
    assert book.at(intent).missed == 4
    book.execute("UPDATE intents SET missing_since = :since", since=f"{START_US - 9 * HOUR_US}//")
    late = Instant(START_US + 2 * HOUR_US, 2 * HOUR_US, "boot")
    assert look(book, intent, ours=late) == 1
    assert book.state(intent) is IntentState.LOST


def test_a_task_that_is_found_again_is_not_missing_any_more(book):
    """One good answer begins the count anew."""
    intent = accepted(book)
    for _ in range(5):
        look(book, intent, ours=Instant(START_US))

    look(book, intent, is_missing=False, ours=Instant(START_US))

    assert book.query("SELECT missed, missing_since FROM intents") == [(0, None)]


def test_the_clock_is_read_while_the_writer_is_busy(book):
    """Whoever waits for tasks reads it in each pass, and queues behind no COMMIT."""
    is_free = threading.Event()

    async def read() -> Instant:
        busy = asyncio.ensure_future(book.ledger._commits.call(lambda _: is_free.wait(20)))
        try:
            return await asyncio.wait_for(book.ledger.now(Instant(START_US)), 10)
        finally:
            is_free.set()
            await busy

    assert asyncio.run(read()).wall_us >= START_US


def test_postgres_measures_waits_with_its_own_clock(postgres_url):
    """Hosts whose clocks differ agree on when a row was claimed and its doubt began."""
    from mynth_dagster.ledger import Ledger  # noqa: PLC0415

    ledger = Ledger.open(postgres_url)
    book = Book(ledger, postgres_url)
    book.open()
    intent = in_doubt(book)

    wrong = Instant(START_US - 9 * HOUR_US, 5, "other host")
    assert abs(book.run(ledger.now(wrong))[0].wall_us - wrong.wall_us) > HOUR_US
    assert book.at(intent).send_by_us - book.at(intent).claimed_at_us == 30_000_000
    (doubt,) = doubts(book)
    assert 0 <= doubt.since.surely_elapsed_us(book.now) < 60_000_000
    assert abs(book.at(intent).claimed_at_us - book.now.wall_us) < 60_000_000
    book.eyes.dispose()
    ledger.close()


def test_what_rests_is_counted_by_partition_with_the_last_try(book):
    """Rows not accepted and rows in doubt are counted; the last try is that of any row."""
    book.open()
    in_doubt(book, "p1")
    book.run(book.ledger.mark_not_accepted(doubts(book), "x"))
    in_doubt(book, "p2")
    last = replace(make_intent("p3"), claimed_at_us=START_US + HOUR_US)
    book.claim(last)
    book.sight(last, "tsk_1")

    read = book.ledger.read

    assert read.resting("b") == {("", ""): Resting(n_not_accepted=1, n_unsearched=1)}
    newest = book.query("SELECT claimed_at_us FROM intents WHERE task_id = 'tsk_1'")[0][0]
    assert read.last_tries_us("b", [Slice()]) == {("", ""): newest}
    assert read.resting("other") == {}


def test_a_stop_is_a_try_at_every_partition_of_its_run(book):
    """Also where nothing was begun; a run that ended well takes its stop back."""
    places = [Slice(fan_out=fan_out) for fan_out in ("000", "001")]
    book.open("000", "001")
    stop = Stopped("rate_limited", "Mynth asks for less.", book.now)
    book.run(book.ledger.close_partitions("b", places, stop))
    stopped = book.query("SELECT stopped_at_us FROM partitions WHERE batch = 'b'")

    tries = book.ledger.read.last_tries_us

    assert tries("b", places) == {("", "000"): stopped[0][0], ("", "001"): stopped[1][0]}
    assert tries("b", places[1:]) == {("", "001"): stopped[1][0]}
    book.run(book.ledger.close_partitions("b", places[:1]))
    assert tries("b", places) == {("", "001"): stopped[1][0]}
