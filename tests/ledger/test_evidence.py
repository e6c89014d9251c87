"""What a task id, an answer or a finished task proves, in whatever order they come."""

from __future__ import annotations

import pytest

from mynth_dagster.ledger.observations import Attachment, Observed
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.models.transitions import Event, IntentState, states_before
from tests.factories import START_US, make_image, make_intent, make_task
from tests.ledger.book import HAS_TASK, sighting

STATES = list(IntentState)


@pytest.mark.parametrize("state", STATES)
def test_a_task_id_is_kept_from_every_state(book, state):
    """Evidence is never thrown away: attached where that is legal, else surplus."""
    intent = make_intent()
    book.put(state, intent)

    found = book.sight(intent, "tsk_1", source="list")

    attaches = state in states_before(Event.SIGHT)
    assert found is (Attachment.ATTACHED if attaches else Attachment.SURPLUS)
    assert book.state(intent) is (IntentState.ACCEPTED if attaches else state)
    assert (("tsk_1", 1) in book.query("SELECT task_id, is_surplus FROM tasks")) is not attaches
    assert book.ledger.read.owners(["tsk_1"]) == {"tsk_1": intent.intent_id}
    assert book.query("SELECT task_id, source, attempt FROM observations") == [("tsk_1", "list", 1)]
    first = "tsk_1" if attaches else ("tsk_first" if state in HAS_TASK else None)
    assert book.at(intent).task_id == first


def test_a_task_that_is_seen_again_is_known(book):
    """Answer, webhook and list may all tell of one task: one task, and three observations."""
    intent = make_intent()
    book.claim(intent)

    found = [book.sight(intent, source=source) for source in ("response", "webhook", "list")]

    assert found == [Attachment.ATTACHED, Attachment.KNOWN, Attachment.KNOWN]
    assert not book.ledger.read.surplus_for([intent.intent_id])
    assert len(book.query("SELECT * FROM observations")) == 3


def test_a_late_answer_still_tells_what_is_held(book):
    """A webhook may attach the task first; only the answer knows the reservation."""
    intent = make_intent()
    book.open()
    book.claim(intent)
    seen = sighting(intent, source="webhook", reserved_units=None)
    assert book.observe(seen) == [Observed(Attachment.ATTACHED)]
    assert book.at(intent).reserved_units == intent.quoted_units
    version = book.version()

    assert book.sight(intent) is Attachment.KNOWN
    assert book.at(intent).reserved_units == 7
    assert book.version() == version + 1
    assert book.query("SELECT reserved_units FROM partitions") == [(7,)]
    assert book.sight(intent) is Attachment.KNOWN
    assert book.version() == version + 1


def test_a_further_task_is_surplus_however_often_it_is_seen(book):
    """It is charged, so it is listed, once."""
    intent = make_intent()
    book.claim(intent)
    book.sight(intent, "tsk_1")

    assert [book.sight(intent, "tsk_2") for _ in range(2)] == [Attachment.SURPLUS] * 2
    surplus = book.ledger.read.surplus_for([intent.intent_id])[intent.intent_id]
    assert [task.task_id for task in surplus] == ["tsk_2"]


def test_a_task_of_another_intent_is_never_attached_twice(book):
    """A proxy that replays one answer to two requests cannot give both the same images."""
    first, second = make_intent("p1"), make_intent("p2")
    book.claim(first)
    book.claim(second)

    observed = book.observe(sighting(first), sighting(second))

    assert [each.attachment for each in observed] == [Attachment.ATTACHED, Attachment.FOREIGN]
    assert book.state(second) is IntentState.SENDING
    assert book.sight(second, "tsk_1") is Attachment.FOREIGN
    assert len(book.query("SELECT * FROM observations")) == 2


def test_what_is_attached_is_what_the_answer_named(book):
    """The reservation of the answer, else the quoted price; earlier words are gone."""
    told, silent = make_intent("p1"), make_intent("p2", quoted_units=5)
    for intent in (told, silent):
        book.claim(intent)
        book.end(intent, Event.LOSE_SIGHT)

    book.observe(sighting(told, "tsk_1"), sighting(silent, "tsk_2", reserved_units=None))

    assert (book.at(told).reserved_units, book.at(silent).reserved_units) == (7, 5)
    assert book.at(told).error_message is None
    assert book.at(told).deadline_at_us == START_US + 10


@pytest.mark.parametrize("state", STATES)
def test_a_task_is_read_once_and_only_into_an_accepted_intent(book, state):
    """Final states never change, whatever is read later."""
    intent = make_intent()
    book.put(state, intent)

    read = book.read(intent, make_task("tsk_first"))

    assert read is (state is IntentState.ACCEPTED)
    assert book.state(intent) is (IntentState.COMPLETED if read else state)


@pytest.mark.parametrize(
    ("task", "n_asked", "state", "charged"),
    [
        (make_task("tsk_first"), 1, IntentState.COMPLETED, 1_000_000),
        (make_task("tsk_first"), 2, IntentState.PARTIAL, 1_000_000),
        (make_task("tsk_first", images=()), 1, IntentState.FAILED, 1_000_000),
        (make_task("tsk_first", cost_units=None), 1, IntentState.COMPLETED, None),
        (
            make_task("tsk_first", status=TaskStatus.FAILED, images=(), cost_units=None),
            1,
            IntentState.FAILED,
            0,
        ),
        (
            make_task("tsk_first", status=TaskStatus.FAILED, images=(make_image(),)),
            1,
            IntentState.FAILED,
            1_000_000,
        ),
    ],
)
def test_what_a_finished_task_means(book, task, n_asked, state, charged):
    """Completed, partial or failed by what was delivered; a cost that is null is not zero."""
    intent = make_intent(n_asked=n_asked)
    book.put(IntentState.ACCEPTED, intent)

    book.read(intent, task)

    found = book.at(intent)
    assert (found.state, found.charged_units) == (state, charged)
    assert book.ledger.read.tasks_for(["tsk_first"]) == {"tsk_first": task}


def test_a_second_reading_does_not_replace_the_first(book):
    """The task as first read stays: later reads cannot rewrite what tables showed."""
    intent = make_intent()
    book.put(IntentState.ACCEPTED, intent)
    book.read(intent, make_task("tsk_first"))

    assert not book.read(intent, make_task("tsk_first", cost_units=9))
    assert book.ledger.read.tasks_for(["tsk_first"])["tsk_first"].cost_units == 1_000_000
