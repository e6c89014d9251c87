"""Every state that delivers nothing is told in words a user can act on."""

import re
from dataclasses import replace

import pytest

from mynth_dagster.models.failure import (
    MESSAGE_MAX_CHARS,
    MoneyOutcome,
    Stage,
    code_of,
    failure_not_submitted,
    failure_of_image,
    failure_of_intent,
    failure_of_missing_image,
    failure_of_problem,
)
from mynth_dagster.models.intent import Intent, RowKey
from mynth_dagster.models.task import Fault, ImageOutcome, Task, TaskStatus
from mynth_dagster.models.transitions import IntentState

NOW_US = 1_795_000_000_000_000
INTENT = Intent(
    intent_id="int_x",
    row=RowKey("shop", "", "x"),
    prompt_id="x",
    fan_out="",
    generation=1,
    attempt=2,
    state=IntentState.FAILED,
    request_hash="1:00",
    model="v/m",
    n_asked=2,
    claimed_at_us=NOW_US,
    send_by_us=NOW_US,
    task_id="tsk_x",
)


def in_state(state: IntentState, **facts) -> Intent:
    return replace(INTENT, state=state, **facts)


@pytest.mark.parametrize("state", list(IntentState))
def test_every_state_has_words(state):
    """No state is without code, message and a next step in a sentence."""
    failure = failure_of_intent(in_state(state), now_us=NOW_US)

    assert (state.value, 2, "tsk_x", "int_x") == (
        failure.status,
        failure.attempts,
        failure.task_id,
        failure.intent_id,
    )
    assert re.fullmatch(r"[a-z][a-z0-9_]*", failure.error_code)
    assert failure.error_message
    assert failure.next_step.endswith(".")


@pytest.mark.parametrize(
    ("state", "stage", "code", "money", "retryable"),
    [
        ("sending", Stage.SUBMISSION, "pending", "unknown", False),
        ("accepted", Stage.GENERATION, "pending", "unknown", False),
        ("withheld", Stage.SUBMISSION, "withheld", "not charged", True),
        ("unresolved", Stage.SUBMISSION, "outcome_unknown", "unknown", False),
        ("not_accepted", Stage.SUBMISSION, "not_accepted", "not charged", True),
        ("lost", Stage.COLLECTION, "task_lost", "unknown", False),
        ("abandoned", Stage.SUBMISSION, "abandoned", "unknown", False),
        ("rejected", Stage.SUBMISSION, "rejected", "not charged", False),
        ("failed", Stage.GENERATION, "task_failed", "unknown", True),
        ("completed", Stage.COLLECTION, "not_collected", "unknown", True),
        ("partial", Stage.COLLECTION, "not_collected", "unknown", True),
    ],
)
def test_state_decides_stage_and_money(state, stage, code, money, retryable):
    """Never sent is not charged; what may have been accepted is unknown and never retryable."""
    failure = failure_of_intent(in_state(IntentState(state)), now_us=NOW_US)

    assert (stage, code, MoneyOutcome(money), retryable) == (
        failure.stage,
        failure.error_code,
        failure.money,
        failure.retryable,
    )


def test_unresolved_row_names_the_command():
    """A row that may have been accepted says how a person decides."""
    failure = failure_of_intent(in_state(IntentState.UNRESOLVED), now_us=NOW_US)

    assert "mynth-dagster resolve int_x --attach" in failure.next_step


def test_overdue_row_is_stalled():
    """Past its deadline an accepted row is stalled, money unknown."""
    intent = in_state(IntentState.ACCEPTED, deadline_at_us=NOW_US)

    failure = failure_of_intent(intent, now_us=NOW_US + 1)

    assert (
        failure.status,
        failure.error_code,
        failure.money,
    ) == ("stalled", "deadline_passed", MoneyOutcome.UNKNOWN)


def test_finished_but_unread_row_is_not_collected():
    """A task that Mynth calls finished waits for collection, however late."""
    intent = in_state(
        IntentState.ACCEPTED, deadline_at_us=1, remote_status=TaskStatus.COMPLETED, charged_units=3
    )

    failure = failure_of_intent(intent, now_us=NOW_US)

    assert (
        failure.stage,
        failure.status,
        failure.error_code,
        failure.money,
    ) == (Stage.COLLECTION, "accepted", "not_collected", MoneyOutcome.CHARGED)


@pytest.mark.parametrize(
    ("reason", "code", "hint"),
    [
        ("insufficient_balance", "insufficient_balance", "Top up"),
        ("budget_exceeded", "budget_exceeded", "Raise the batch's budget"),
        ("The run was stopped.", "withheld", "Materialize tasks for"),
    ],
)
def test_withheld_row_tells_its_reason(reason, code, hint):
    """The reason of a withheld row is its code, and decides the next step."""
    failure = failure_of_intent(in_state(IntentState.WITHHELD, reason=reason), now_us=NOW_US)

    assert code == failure.error_code
    assert failure.next_step.startswith(hint)


def test_rejected_row_tells_what_the_api_answered():
    """A refusal keeps code, message, field and status of the API."""
    intent = in_state(
        IntentState.REJECTED,
        error_code="VALIDATION_ERROR",
        error_message="size",
        error_field="size",
        http_status=400,
    )

    failure = failure_of_intent(intent, now_us=NOW_US)

    assert (
        failure.error_code,
        failure.error_message,
        failure.field,
        failure.http_status,
    ) == ("validation_error", "size", "size", 400)


@pytest.mark.parametrize(
    ("reserved", "charged", "money"),
    [
        (None, None, "unknown"),
        (5, None, "refunded"),
        (5, 0, "refunded"),
        (5, 3, "charged"),
        (None, 0, "not charged"),
        (None, 3, "charged"),
    ],
)
def test_money_of_a_failed_task(reserved, charged, money):
    """A charge is a charge, a reservation of a failure is given back, silence is unknown."""
    intent = in_state(IntentState.FAILED, reserved_units=reserved, charged_units=charged)

    assert MoneyOutcome(money) == failure_of_intent(intent, now_us=NOW_US).money


def test_failed_task_names_the_faults_of_its_images():
    """A task without faults of its own is told by those of its images, each once."""
    fault = Fault("RESTRICTED_CONTENT", "not allowed")
    images = tuple(ImageOutcome(index, fault=fault) for index in range(3))
    task = Task("tsk_x", TaskStatus.COMPLETED, 1, 2, images=images)

    failure = failure_of_intent(INTENT, now_us=NOW_US, task=task)

    assert (failure.error_code, failure.error_message) == ("restricted_content", "not allowed")
    assert not failure.retryable
    assert "Edit this row" in failure.next_step


def test_image_failure_in_prose_has_a_code():
    """Where the API gives prose for an image, the prose is the message."""
    outcome = ImageOutcome(1, fault=Fault("The model was too busy."))

    failure = failure_of_image(in_state(IntentState.PARTIAL), outcome)

    assert (
        failure.image_index,
        failure.error_code,
        failure.error_message,
    ) == (1, "image_failed", "The model was too busy.")


def test_missing_image_is_reported():
    """An image that a finished task does not mention has its own code."""
    failure = failure_of_missing_image(in_state(IntentState.PARTIAL, reserved_units=1), 3)

    assert (
        failure.image_index,
        failure.error_code,
        failure.money,
    ) == (3, "image_missing", MoneyOutcome.REFUNDED)


def test_problem_of_validation_is_reported():
    """A row that failed our checks was never sent."""
    failure = failure_of_problem("empty_prompt", "prompt", "the prompt is empty")

    assert (
        failure.stage,
        failure.status,
        failure.field,
        failure.money,
        failure.attempts,
    ) == (Stage.VALIDATION, "rejected_input", "prompt", MoneyOutcome.NOT_CHARGED, 0)


def test_row_that_was_not_submitted_tells_why():
    """Withheld by the stop of the last run, or never tried; the stop decides the next step."""
    stopped, new = failure_not_submitted("insufficient_balance"), failure_not_submitted()

    assert (stopped.status, stopped.error_code) == ("withheld", "insufficient_balance")
    assert stopped.next_step.startswith("Top up")
    assert (new.status, new.error_code) == ("not_submitted", "not_submitted")


def test_long_messages_are_cut():
    """A message fits into a table cell and is one line."""
    intent = in_state(IntentState.REJECTED, error_message="long\n" * 1_000)

    message = failure_of_intent(intent, now_us=NOW_US).error_message

    assert len(message) == MESSAGE_MAX_CHARS
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("RESTRICTED_CONTENT", "restricted_content"),
        (" Rate-Limited ", "rate_limited"),
        ("some prose", "other"),
        ("", "other"),
        (None, "other"),
        ("x" * 65, "other"),
    ],
)
def test_codes_are_lower_snake_case(text, code):
    """Codes of any spelling become one; what is no code becomes the given one."""
    assert code == code_of(text, "other")
