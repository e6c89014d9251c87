"""Which rows of a table need no closer look: one question to either database."""

from __future__ import annotations

import pytest

from mynth_dagster.models.batch import Slice
from mynth_dagster.models.transitions import IntentState
from tests.factories import make_image, make_intent, make_task

HERE = Slice()


def deliver(book, key: str = "p1", *, cost_units: int | None = 1_000_000, **fields):
    """An intent that is asked for, accepted and read."""
    intent = make_intent(key, **fields)
    task_id = f"tsk_{intent.intent_id}"
    assert book.claim(intent)
    book.sight(intent, task_id)
    image = make_image(cost_units=cost_units)
    book.read(intent, make_task(task_id, cost_units=cost_units, images=(image,)))
    return intent


def test_a_row_that_was_delivered_for_money_is_returned_with_its_hash(book):
    """And only it, of the rows that were asked about."""
    intent = deliver(book, "p1")
    deliver(book, "p2")

    found = book.ledger.read.delivered("b", HERE, ["p1", "never asked for"])

    assert found == {"p1": intent.request_hash}


def test_a_row_in_any_other_state_needs_a_closer_look(book):
    """Whatever it has cost."""
    others = [state.value for state in IntentState if state is not IntentState.COMPLETED]
    for state in others:
        book.put(IntentState(state), make_intent(state), f"tsk_{state}")

    assert book.ledger.read.delivered("b", HERE, others) == {}


@pytest.mark.parametrize(("cost_units", "is_told"), [(0, False), (None, True), (1, True)])
def test_a_row_that_cost_nothing_needs_a_closer_look(book, cost_units, is_told):
    """A cost that is not known may have been one."""
    deliver(book, "p1", cost_units=cost_units)

    assert ("p1" in book.ledger.read.delivered("b", HERE, ["p1"])) is is_told


@pytest.mark.parametrize("state", [IntentState.SENDING, IntentState.COMPLETED, IntentState.FAILED])
def test_a_row_that_was_asked_for_twice_needs_a_closer_look(book, state):
    """However the second wish stands, the first one alone does not tell what the row is."""
    deliver(book, "p1")
    book.put(state, make_intent("p1", generation=2))

    assert book.ledger.read.delivered("b", HERE, ["p1"]) == {}


def test_a_row_of_another_place_is_another_row(book):
    """Its shard may have moved; a window and a batch are part of what it is."""
    deliver(book, "p1", fan_out="003")

    read = book.ledger.read
    assert list(read.delivered("b", Slice(fan_out="003"), ["p1"])) == ["p1"]
    assert read.delivered("b", Slice(fan_out="004"), ["p1"]) == {}
    assert read.delivered("b", Slice("2026-11-20", "003"), ["p1"]) == {}
    assert read.delivered("other", Slice(fan_out="003"), ["p1"]) == {}


def test_any_number_of_rows_is_one_question(book):
    """More than either database takes as single parameters, quotes and all."""
    odd = 'it\'s "odd" \\ % :x {}'
    deliver(book, odd)
    keys = [f"p{n}" for n in range(70_000)]

    assert list(book.ledger.read.delivered("b", HERE, [*keys, odd])) == [odd]


def test_a_name_with_a_nul_is_found_whole_or_not_at_all(book, ledger_url):
    """SQLite keeps such a name, but its JSON would end it at the NUL; Postgres has no such row."""
    deliver(book, "a")
    names = ["a"]
    if ledger_url.startswith("sqlite"):
        deliver(book, "a\0b")
        names.append("a\0b")

    found = book.ledger.read.delivered("b", HERE, ["a\0b", "a\0", "a"])

    assert sorted(found) == names
