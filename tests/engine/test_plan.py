"""Decisions before anything is sent: which rows, at what price."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mynth_dagster.engine.plan import Step, decide, price_class
from mynth_dagster.models.request import InputImage, Rating, RowRequest, request_hash
from mynth_dagster.models.transitions import IntentState
from tests.factories import MODEL, make_intent

HASH = make_intent().request_hash
STEPS = {
    IntentState.SENDING: Step.WAIT,
    IntentState.ACCEPTED: Step.WAIT,
    IntentState.WITHHELD: Step.SEND,
    IntentState.NOT_ACCEPTED: Step.SEND,
    IntentState.UNRESOLVED: Step.HOLD,
    IntentState.LOST: Step.HOLD,
    IntentState.ABANDONED: Step.HOLD,
    IntentState.COMPLETED: Step.DONE,
    IntentState.PARTIAL: Step.DONE,
    IntentState.FAILED: Step.DONE,
    IntentState.REJECTED: Step.DONE,
}


@pytest.mark.parametrize("state", list(IntentState))
def test_what_a_run_does_with_a_row_by_its_state(state):
    """Every state has one step; only a delivery that surely ended without a task is tried again."""
    intent = make_intent(state=state, generation=3)

    decision = decide(HASH, [intent])

    assert decision.step is STEPS[state]
    assert decision.rest is intent
    assert not decision.is_new_generation
    if decision.step is Step.SEND:
        assert decision.generation == 3


def test_a_row_nobody_asked_for_is_sent():
    """A new row is generation 1."""
    decision = decide(HASH, [])

    assert (decision.step, decision.generation, decision.is_first_send) == (Step.SEND, 1, True)


@pytest.mark.parametrize("state", list(IntentState))
def test_an_edited_row_is_a_new_generation(state):
    """Whatever became of the row as it was, as it reads now nobody asked for it."""
    decision = decide("1:other", [make_intent(state=state, generation=2)])

    assert (decision.step, decision.generation, decision.is_new_generation) == (Step.SEND, 3, True)
    assert decision.rest is None


def test_a_row_that_is_edited_back_is_what_it_was():
    """Its old images count again: nothing is paid for an undone edit."""
    was = make_intent(state=IntentState.COMPLETED)
    edited = make_intent(state=IntentState.COMPLETED, generation=2, request_hash="1:other")

    assert decide(HASH, [was, edited]).rest is was


def test_the_newest_of_equal_generations_counts():
    """A row that was asked for again is judged by its last delivery."""
    first = make_intent(state=IntentState.FAILED)
    again = make_intent(state=IntentState.ACCEPTED, generation=2)

    assert decide(HASH, [again, first]).step is Step.WAIT


BASE = RowRequest("a", model=MODEL)


@pytest.mark.parametrize(
    "changed",
    [
        replace(BASE, model="m"),
        replace(BASE, size="16:9_4k"),
        replace(BASE, count=2),
        replace(BASE, inputs=(InputImage("u"),)),
        replace(BASE, enhance="magic"),
        replace(BASE, rating=Rating()),
    ],
)
def test_what_may_change_the_price_is_a_class_of_its_own(changed):
    """Model, 4k, count, inputs, enhancement and rating."""
    assert price_class(changed) != price_class(BASE)


def test_what_does_not_change_the_price_is_one_class():
    """A thousand prompts need one estimate."""
    other = replace(BASE, prompt="b", negative_prompt="c", size="16:9", output_format="png")

    assert price_class(other) == price_class(BASE)
    assert request_hash(other) != request_hash(BASE)
