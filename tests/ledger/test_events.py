"""The inbox on SQLite and Postgres: kept once, worked once, found again."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import EventEnd, EventOutcome, Postponement, WebhookEvent
from tests.factories import START_US, make_intent

LATER_US = START_US + 60_000_000


def event(n: int = 1, **fields) -> WebhookEvent:
    """A signed event of task ``n``."""
    made = WebhookEvent(
        event_id=f"signed:task.image.generate.completed:tsk_{n}",
        is_signed=True,
        event="task.image.generate.completed",
        task_id=f"tsk_{n}",
        body='{"event": "…"}',
        received_at_us=START_US + n,
        signed_at_us=START_US,
    )
    return replace(made, **fields)


def receive(book, *events):
    return book.run(*(book.ledger.events.receive(e) for e in events))


def finish(book, e, outcome=EventOutcome.READ, **fields):
    return book.run(book.ledger.events.finish(EventEnd(e.event_id, outcome, LATER_US, **fields)))[0]


def test_an_event_is_kept_as_it_came(book):
    """Body, times and kind, to be worked later."""
    made = event(body='{"text": "\\u0000 ü"}')
    receive(book, made)

    assert book.ledger.events.due(START_US + 1, 10) == [made]
    assert book.ledger.events.n_fresh() == 1


def test_what_comes_twice_is_kept_once_whether_together_or_later(book):
    """Also after it was worked: a replay leaves no trace."""
    assert sum(receive(book, *[event()] * 10)) == 1
    assert receive(book, event(body="other", received_at_us=LATER_US)) == [False]
    assert book.ledger.events.due(LATER_US, 10) == [event()]

    finish(book, event())
    assert receive(book, event()) == [False]
    assert book.ledger.events.due(LATER_US, 10) == []


def test_two_receivers_on_one_ledger_keep_an_event_once(ledger_url):
    """Each with connections and a writer of its own."""
    ledgers = [Ledger.open(ledger_url), Ledger.open(ledger_url)]
    kept: list[bool] = []
    events = [event(n) for n in range(50)]

    async def receive_all(ledger: Ledger) -> None:
        kept.extend(await asyncio.gather(*(ledger.events.receive(e) for e in events)))

    threads = [
        threading.Thread(target=asyncio.run, args=(receive_all(ledger),)) for ledger in ledgers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ledgers[0].events.due(LATER_US, 100)
    for ledger in ledgers:
        ledger.close()

    assert sum(kept) == len(found) == 50


def test_events_are_worked_oldest_first_and_so_many_at_a_time(book):
    """A long backlog is not read into memory at once."""
    receive(book, *(event(n) for n in (3, 1, 2)))
    events = book.ledger.events

    first = events.due(LATER_US, 2)
    assert [e.task_id for e in first] == ["tsk_1", "tsk_2"]
    assert [e.task_id for e in events.due(LATER_US, 2, after=first[-1])] == ["tsk_3"]
    assert events.due(LATER_US, 2, after=event(3)) == []


def test_an_event_is_due_at_once_by_any_clock(book):
    """A receiver whose clock is ahead must not delay anything."""
    receive(book, event(received_at_us=LATER_US))

    assert len(book.ledger.events.due(START_US, 10)) == 1


def test_a_task_of_ours_is_known_by_its_id(book):
    """Attached or surplus."""
    intent = make_intent()
    book.open()
    book.claim(intent)
    book.sight(intent, "tsk_1")
    book.sight(intent, "tsk_2")

    found = book.ledger.read.owners(["tsk_1", "tsk_2", "tsk_3"])
    assert found == dict.fromkeys(["tsk_1", "tsk_2"], intent.intent_id)


@pytest.mark.parametrize("outcome", EventOutcome)
def test_a_worked_event_is_worked_once_and_sheds_its_body(book, outcome):
    """Only what nobody owned is kept whole: it is the one evidence of its task."""
    receive(book, event())

    assert finish(book, event(), outcome) is True
    assert finish(book, event(), EventOutcome.KNOWN) is False
    ((body, stored),) = book.query("SELECT body, outcome FROM webhook_events")
    assert (body is not None) is (outcome is EventOutcome.UNMATCHED)
    assert stored == outcome.value


def test_an_event_that_cannot_be_worked_now_is_due_later(book):
    """And remembers how often it was tried."""
    receive(book, event())
    later = Postponement(event().event_id, LATER_US)
    book.run(book.ledger.events.postpone(later))
    events = book.ledger.events

    assert events.due(LATER_US - 1, 10) == []
    assert [e.n_tries for e in events.due(LATER_US, 10)] == [1]
    assert events.n_fresh() == 0
    finish(book, event())
    assert book.run(events.postpone(later)) == [False]


def test_the_last_event_of_a_batch_is_known(book):
    """By batch, whatever order they are processed in; none where none ever came."""
    for n in (1, 3, 2):
        receive(book, event(n))
        finish(book, event(n), batch="b")
    receive(book, event(4))
    finish(book, event(4), batch="other")

    assert book.ledger.events.last_at_us("b") == START_US + 3
    assert book.ledger.events.last_at_us("nobody") is None


def test_the_inbox_is_counted(book):
    """What waits, since when, and what became of the rest."""
    assert book.ledger.events.counts().last_received_at_us is None
    receive(book, *(event(n) for n in range(1, 5)))
    finish(book, event(1))
    finish(book, event(2), EventOutcome.FOREIGN)
    counts = book.ledger.events.counts()

    assert (counts.n_open, counts.oldest_open_at_us) == (2, START_US + 3)
    assert counts.last_received_at_us == START_US + 4
    assert counts.n_by_outcome == {EventOutcome.READ: 1, EventOutcome.FOREIGN: 1}


def test_old_events_are_forgotten_but_for_those_that_wait_or_nobody_owned(book):
    """Replays of them would have to be signed anew, which only Mynth can do."""
    receive(book, *(event(n) for n in range(1, 4)))
    finish(book, event(1))
    finish(book, event(2), EventOutcome.UNMATCHED)

    assert book.run(book.ledger.events.forget(LATER_US)) == [0]
    assert book.run(book.ledger.events.forget(LATER_US + 1)) == [1]
    left = {row[0][-1] for row in book.query("SELECT event_id FROM webhook_events")}
    assert left == {"2", "3"}
