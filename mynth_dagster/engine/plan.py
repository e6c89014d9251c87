"""
The plan: the prompt table minus the ledger. Pure; computed anew at each run.

A row is sent if nobody asked for it as it reads now, if its delivery rests in a state from which
it may be tried again, or if a person gave its last wish up and asked anew. Everything else waits,
is done, or is held for evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mynth_dagster.engine.asking import NOTHING_SPECIAL, Asking
from mynth_dagster.models.failure import is_retryable
from mynth_dagster.models.intent import Intent, choose_current
from mynth_dagster.models.request import Wish
from mynth_dagster.models.transitions import FINAL, HELD, RESUBMIT, SENDABLE, IntentState
from mynth_dagster.tables.inputs import BadInput


class Step(str, Enum):
    """What a run does with a row."""

    SEND = "send"
    WAIT = "wait"
    DONE = "done"
    HOLD = "hold"


@dataclass(frozen=True)
class Delivery:
    """
    One row to be sent.

    Args:
        rest: The resting intent whose delivery is tried again, or None for a new generation.
        generation: 1-based.
        obstacle: Why it cannot be sent now, whatever Mynth would say.
    """

    prompt_id: str
    request_key: str
    request_hash: str
    request: Wish
    fan_out: str
    generation: int = 1
    rest: Intent | None = None
    obstacle: BadInput | None = None

    @property
    def attempt(self) -> int:
        """The number of the coming attempt, 1-based."""
        return 1 if self.rest is None else self.rest.attempt + 1


@dataclass(frozen=True)
class Decision:
    """
    A row's step, with the intent that it rests on or the generation to be made.

    `was_paid`: some generation of the row has a task that cost, or may have cost, something.
    """

    step: Step
    generation: int = 1
    rest: Intent | None = None
    was_paid: bool = False

    @property
    def is_first_wish(self) -> bool:
        """The row is sent, and nobody ever asked for it under its key."""
        return self.step is Step.SEND and self.rest is None and self.generation == 1

    @property
    def is_further_wish(self) -> bool:
        """The row is sent as a new generation: edited, or asked for again."""
        return self.step is Step.SEND and self.rest is None and self.generation > 1


def decide(
    request_hash: str,
    intents: Sequence[Intent],
    asking: Asking = NOTHING_SPECIAL,
    *,
    retries: int = 0,
) -> Decision:
    """
    What to do with a valid row, given all generations that the ledger has of it.

    Args:
        retries: How often a row whose task failed is asked for again by itself, where another
            try may end otherwise.
    """
    current = choose_current(intents, request_hash)
    was_paid = any(intent.task_id and intent.charged_units != 0 for intent in intents)
    n_asked = sum(intent.request_hash == request_hash for intent in intents)
    if (
        current is None
        or _is_asked_anew(current, asking)
        or (n_asked <= retries and _may_end_otherwise(current))
    ):
        newest = max((intent.generation for intent in intents), default=0)
        return Decision(Step.SEND, newest + 1, None, was_paid)
    return Decision(_step_of(current), current.generation, current, was_paid)


def _may_end_otherwise(current: Intent) -> bool:
    return current.state is IntentState.FAILED and is_retryable(current)


def _is_asked_anew(current: Intent, asking: Asking) -> bool:
    """By a person: given up with the wish to send again, or finished and asked for once more."""
    is_resubmitted = current.state is IntentState.ABANDONED and current.reason == RESUBMIT
    return is_resubmitted or asking.wants_again(current)


def _step_of(current: Intent) -> Step:
    if current.state in SENDABLE:
        return Step.SEND
    if current.state in FINAL:
        return Step.DONE
    return Step.HOLD if current.state in HELD else Step.WAIT


@dataclass(frozen=True)
class PriceClass:
    """Requests that cost the same: what the price of one depends on, as far as is documented."""

    model: str
    is_4k: bool
    count: int
    n_inputs: int
    enhanced: bool
    rated: bool


def price_class(request: Wish) -> PriceClass:
    """The price class of one request."""
    return PriceClass(
        model=request.model,
        is_4k=(request.size or "").endswith("_4k"),
        count=request.count,
        n_inputs=len(request.inputs),
        enhanced=request.enhance is not None,
        rated=request.rating is not None,
    )
