"""
Why a prompt row or an image is not there, what became of its money, and what to do next.

The wording of each state is in `failure_words`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mynth_dagster.models.failure_words import (
    NEVER_BETTER,
    MoneyOutcome,
    Stage,
    code_of,
    money_of,
    next_for,
    next_for_withheld,
    shown,
    words_for,
)
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.task import Fault, ImageOutcome, Task
from mynth_dagster.models.transitions import IntentState

REJECTED_INPUT = "rejected_input"
"""Status of a row that failed our own checks and was never sent."""
NOT_SUBMITTED = "not_submitted"
"""Status of a valid row that nobody asked for yet."""


@dataclass(frozen=True)
class Failure:
    """
    One row of the failure table, without the row's own columns.

    Args:
        stage: How far it came.
        status: The intent's shown status, `rejected_input` or `not_submitted`; also `withheld`
            for a row that nobody asked for since the run stopped before it.
        error_code: Lower snake case.
        next_step: One sentence a user can act on.
        retryable: Asking again may end otherwise and pays for nothing twice.
        attempts: How often delivery was tried; 0 where nobody tried.
        image_index: 0-based; None means the whole request.
        field: The column or request field at fault, where known.
    """

    stage: Stage
    status: str
    error_code: str
    error_message: str
    money: MoneyOutcome
    next_step: str
    retryable: bool = False
    attempts: int = 0
    image_index: int | None = None
    field: str | None = None
    http_status: int | None = None
    task_id: str | None = None
    intent_id: str | None = None


_OF_FILES_AND_MODELS = "input_|capability_not_supported$"
_OF_THE_SERVER = (
    *("prompt_too_long", "negative_prompt_too_long", "unknown_model", "unknown_size"),
    *("invalid_count", "too_many_inputs", "invalid_input_role", "invalid_output_quality"),
    *("invalid_enhance", "invalid_destination", "unknown_destination"),
)
SAYS_NOTHING_OF_THE_PAST = f"^({_OF_FILES_AND_MODELS}|({'|'.join(_OF_THE_SERVER)})$)"
"""
Problem codes of today's files, models, revision and account.

What was delivered before them stays.
"""


def says_nothing_of_the_past(code: str) -> bool:
    """Whether a row that is rejected for this may have been fine, and paid for, before."""
    return re.match(SAYS_NOTHING_OF_THE_PAST, code) is not None


def is_readable(code: str) -> bool:
    """Whether a row that is rejected for this still says exactly what it asks for."""
    return code in _OF_THE_SERVER


def failure_of_problem(code: str, field: str | None, message: str) -> Failure:
    """A row that failed our own checks; it was never sent."""
    return Failure(
        stage=Stage.VALIDATION,
        status=REJECTED_INPUT,
        error_code=code_of(code, "invalid_row"),
        error_message=shown(message),
        field=field,
        money=MoneyOutcome.NOT_CHARGED,
        next_step="Correct this row in the prompt table, then materialize prompts and tasks again.",
    )


def failure_not_submitted(stop_code: str | None = None) -> Failure:
    """A valid row that nobody asked for yet; withheld, where the last run stopped before it."""
    code = code_of(stop_code, NOT_SUBMITTED)
    return Failure(
        stage=Stage.SUBMISSION,
        status=IntentState.WITHHELD.value if stop_code else NOT_SUBMITTED,
        error_code=code,
        error_message="the last run stopped before it" if stop_code else "not asked for yet",
        money=MoneyOutcome.NOT_CHARGED,
        next_step=next_for_withheld(code),
        retryable=True,
    )


def failure_of_intent(intent: Intent, *, now_us: int, task: Task | None = None) -> Failure:
    """
    An intent that delivered nothing, in whatever state it is.

    ``task`` carries the faults of a finished task. A `completed` or `partial` intent
    lands here only where its task could not be read.
    """
    status = intent.shown_status(now_us)
    words = words_for(status, intent, task)
    return Failure(
        stage=words.stage,
        status=status,
        error_code=words.code,
        error_message=shown(words.message),
        money=words.money,
        next_step=words.next_step,
        retryable=words.retryable,
        attempts=intent.attempt,
        field=intent.error_field,
        http_status=intent.http_status,
        task_id=intent.task_id,
        intent_id=intent.intent_id,
    )


def failure_of_image(intent: Intent, outcome: ImageOutcome) -> Failure:
    """An image of a delivering task that failed, or could not be delivered anywhere."""
    lost = Fault(
        outcome.destination_error or "destination_failed", "the destination did not take the image"
    )
    fault = outcome.fault or lost
    code = code_of(fault.code, "image_failed")
    said = fault.message or (fault.code if code == "image_failed" else None)
    delivered = outcome.fault is None
    return Failure(
        stage=Stage.DELIVERY if delivered else Stage.GENERATION,
        status=intent.state.value,
        error_code=code,
        error_message=shown(said or "the image failed; Mynth gave no details"),
        money=money_of(intent.reserved_units, outcome.cost_units),
        next_step=(
            "Check the destination in Mynth's settings, then ask for this row again."
            if delivered
            else next_for(code, "partial")
        ),
        retryable=code not in NEVER_BETTER,
        attempts=intent.attempt,
        image_index=outcome.index,
        task_id=intent.task_id,
        intent_id=intent.intent_id,
    )


def failure_of_missing_image(intent: Intent, image_index: int) -> Failure:
    """An image that was asked for and that the finished task does not mention."""
    outcome = ImageOutcome(
        image_index,
        fault=Fault("image_missing", "the finished task has no such image"),
    )
    return failure_of_image(intent, outcome)
