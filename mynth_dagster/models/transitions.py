"""
The states of an intent, and the table of transitions between them.

The plan is the prompt table minus the ledger, so "not sent yet" is not a state: the first durable
one is `sending`. `docs/state-machine.md` draws this table.
"""

from __future__ import annotations

from enum import Enum

from mynth_dagster.errors import IllegalTransitionError


class IntentState(str, Enum):
    """The state of one intent; SQL, tables and logs use the value."""

    SENDING = "sending"
    ACCEPTED = "accepted"
    WITHHELD = "withheld"
    UNRESOLVED = "unresolved"
    NOT_ACCEPTED = "not_accepted"
    LOST = "lost"
    ABANDONED = "abandoned"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    REJECTED = "rejected"


RESUBMIT = "resubmit"
"""Reason of an `abandoned` intent whose row a person resubmitted as a new generation."""

STALLED = "stalled"
"""Shown for `accepted` past its deadline; computed at read, never stored."""


class Event(str, Enum):
    """What can happen to an intent."""

    CLAIM = "claim"
    GIVE_BACK = "give back"
    REJECT = "reject"
    ACCEPT = "accept"
    LOSE_SIGHT = "lose sight"
    SIGHT = "sight"
    PROVE_ABSENT = "prove absent"
    ABANDON = "abandon"
    MISS = "miss"
    COMPLETE = "complete"
    DELIVER_PARTLY = "deliver partly"
    FAIL = "fail"


_S = IntentState
_E = Event

TRANSITIONS: dict[tuple[IntentState | None, Event], IntentState] = {
    (None, _E.CLAIM): _S.SENDING,
    (_S.WITHHELD, _E.CLAIM): _S.SENDING,
    (_S.NOT_ACCEPTED, _E.CLAIM): _S.SENDING,
    (_S.SENDING, _E.GIVE_BACK): _S.WITHHELD,
    (_S.SENDING, _E.REJECT): _S.REJECTED,
    (_S.SENDING, _E.ACCEPT): _S.ACCEPTED,
    (_S.SENDING, _E.LOSE_SIGHT): _S.UNRESOLVED,
    (_S.UNRESOLVED, _E.PROVE_ABSENT): _S.NOT_ACCEPTED,
    (_S.UNRESOLVED, _E.ABANDON): _S.ABANDONED,
    (_S.LOST, _E.ABANDON): _S.ABANDONED,
    (_S.SENDING, _E.SIGHT): _S.ACCEPTED,
    (_S.WITHHELD, _E.SIGHT): _S.ACCEPTED,
    (_S.UNRESOLVED, _E.SIGHT): _S.ACCEPTED,
    (_S.NOT_ACCEPTED, _E.SIGHT): _S.ACCEPTED,
    (_S.ABANDONED, _E.SIGHT): _S.ACCEPTED,
    (_S.LOST, _E.SIGHT): _S.ACCEPTED,
    (_S.ACCEPTED, _E.MISS): _S.LOST,
    (_S.ACCEPTED, _E.COMPLETE): _S.COMPLETED,
    (_S.ACCEPTED, _E.DELIVER_PARTLY): _S.PARTIAL,
    (_S.ACCEPTED, _E.FAIL): _S.FAILED,
}

FINAL = frozenset({_S.COMPLETED, _S.PARTIAL, _S.FAILED, _S.REJECTED})
MOVING = frozenset({_S.SENDING, _S.ACCEPTED})
RESTING = frozenset(_S) - FINAL - MOVING
SENDABLE = frozenset(state for state, event in TRANSITIONS if event is _E.CLAIM and state)
"""Resting states from which a run may deliver the same generation again."""
HELD = frozenset({_S.UNRESOLVED, _S.LOST, _S.ABANDONED})
"""Resting states that only evidence or a person ends: a run must not send such a row by itself."""


def next_state(state: IntentState | None, event: Event, *, key: str = "intent") -> IntentState:
    """
    Return the state after an event.

    Raises:
        IllegalTransitionError: The table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        origin = "no row" if state is None else state.value
        raise IllegalTransitionError(key, origin, f"({event.value})") from None


def states_before(event: Event) -> tuple[IntentState, ...]:
    """Return the states in which an event may happen; for the WHERE of a compare-and-set."""
    return tuple(state for state, what in TRANSITIONS if what is event and state is not None)
