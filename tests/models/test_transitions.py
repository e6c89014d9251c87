"""The state machine as a table: complete, closed, and without a way out of the end."""

from __future__ import annotations

from itertools import product

import pytest

from mynth_dagster.errors import IllegalTransitionError
from mynth_dagster.models.task import outcome_event
from mynth_dagster.models.transitions import (
    FINAL,
    HELD,
    MOVING,
    RESTING,
    SENDABLE,
    TRANSITIONS,
    Event,
    IntentState,
    next_state,
    states_before,
)
from tests.factories import make_image, make_task

ALL = frozenset(IntentState)


def test_every_arrow_is_followed():
    """Each pair of state and event that the table has leads where the table says."""
    assert {pair: next_state(*pair) for pair in TRANSITIONS} == TRANSITIONS


def test_every_other_pair_is_refused():
    """Nothing happens that the table does not have."""
    for pair in set(product([None, *IntentState], Event)) - set(TRANSITIONS):
        with pytest.raises(IllegalTransitionError, match="may not become"):
            next_state(*pair)


def test_the_kinds_of_states_divide_them():
    """Final, moving or resting, and none of them twice."""
    assert FINAL | MOVING | RESTING == ALL
    assert len(FINAL) + len(MOVING) + len(RESTING) == len(ALL)
    assert SENDABLE | HELD == RESTING
    assert not SENDABLE & HELD


def test_final_states_never_change():
    """Only a new generation follows."""
    assert not [state for state, _ in TRANSITIONS if state in FINAL]


def test_every_state_is_reached_and_every_other_is_left():
    """No state is a dead word, and none but the final ones is a trap."""
    reached, leaving = set(TRANSITIONS.values()), {state for state, _ in TRANSITIONS}

    assert reached == ALL
    assert leaving - {None} == ALL - FINAL


def test_only_what_surely_made_no_task_is_sent_again():
    """A row in doubt is never claimed."""
    assert {IntentState.WITHHELD, IntentState.NOT_ACCEPTED} == SENDABLE
    assert set(states_before(Event.CLAIM)) == SENDABLE


def test_evidence_leads_to_accepted_from_wherever_there_may_be_a_task():
    """Sending, given back, in doubt, cleared, given up and lost."""
    assert set(states_before(Event.SIGHT)) == RESTING | {IntentState.SENDING}


@pytest.mark.parametrize(
    ("images", "n_asked", "event"),
    [
        ((make_image(),), 1, Event.COMPLETE),
        ((make_image(), make_image(1)), 1, Event.COMPLETE),
        ((make_image(),), 2, Event.DELIVER_PARTLY),
        ((), 1, Event.FAIL),
    ],
)
def test_what_was_delivered_decides(images, n_asked, event):
    """A completed task that delivered nothing is a failure of its row."""
    assert outcome_event(make_task(images=images), n_asked) is event
