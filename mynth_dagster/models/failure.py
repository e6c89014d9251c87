"""
Why a prompt row or an image is not there, what became of its money, and what to do next.

Every state that delivers nothing has one wording here, used by tables, reports and the UI.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from mynth_dagster.errors import cut
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.task import Fault, ImageOutcome, Task
from mynth_dagster.models.transitions import STALLED, IntentState

REJECTED_INPUT = "rejected_input"
"""Status of a row that failed our own checks and was never sent."""
NOT_SUBMITTED = "not_submitted"
"""Status of a valid row that nobody asked for yet."""

MESSAGE_MAX_CHARS = 1_000  # long enough for any prose of the API, short enough for a table cell

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NEVER_BETTER = frozenset(
    {
        "restricted_content",
        "capability_not_supported",
        "validation_error",
        "model_not_found",
    }
)
"""Codes that the same request would meet again."""


class Stage(str, Enum):
    """How far a row or image came."""

    VALIDATION = "validation"
    SUBMISSION = "submission"
    GENERATION = "generation"
    DELIVERY = "delivery"
    COLLECTION = "collection"
    DOWNLOAD = "download"


class MoneyOutcome(str, Enum):
    """What became of the money."""

    NOT_CHARGED = "not charged"
    CHARGED = "charged"
    REFUNDED = "refunded"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Failure:
    """
    One row of the failure table, without the row's own columns.

    Args:
        stage: How far it came.
        status: The intent's shown status, `rejected_input` or `not_submitted`.
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


def code_of(text: str | None, otherwise: str) -> str:
    """A code in lower snake case; prose and nothing become ``otherwise``."""
    lowered = (text or "").strip().lower().replace("-", "_")
    return lowered if _CODE.fullmatch(lowered) else otherwise


def failure_of_problem(code: str, field: str | None, message: str) -> Failure:
    """A row that failed our own checks; it was never sent."""
    return Failure(
        stage=Stage.VALIDATION,
        status=REJECTED_INPUT,
        error_code=code_of(code, "invalid_row"),
        error_message=_shown(message),
        field=field,
        money=MoneyOutcome.NOT_CHARGED,
        next_step="Correct this row in the prompt table, then materialize prompts and tasks again.",
    )


def is_retryable(intent: Intent) -> bool:
    """Whether asking for a failed or refused row again may end otherwise."""
    return intent.error_code is None or code_of(intent.error_code, "failed") not in _NEVER_BETTER


def failure_not_submitted(stop_reason: str | None = None) -> Failure:
    """A valid row that nobody asked for yet, with the reason why the last run stopped."""
    because = f": {stop_reason}" if stop_reason else ""
    return Failure(
        stage=Stage.SUBMISSION,
        status=NOT_SUBMITTED,
        error_code=NOT_SUBMITTED,
        error_message=_shown(f"not asked for yet{because}"),
        money=MoneyOutcome.NOT_CHARGED,
        next_step="Materialize tasks for this partition; only rows not asked for are sent.",
        retryable=True,
    )


def failure_of_intent(intent: Intent, *, now_us: int, task: Task | None = None) -> Failure:
    """
    An intent that delivered nothing, in whatever state it is.

    ``task`` carries the faults of a finished task. A `completed` or `partial` intent
    lands here only where its task could not be read.
    """
    status = intent.shown_status(now_us)
    if intent.state is IntentState.FAILED:
        words = _words_for_failed(intent, task)
    else:
        words = _WORDS_BY_STATUS[status](intent)
    return Failure(
        stage=words.stage,
        status=status,
        error_code=words.code,
        error_message=_shown(words.message),
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
    fault = outcome.fault or Fault("destination_failed", "the destination did not take the image")
    code = code_of(fault.code, "image_failed")
    said = fault.message or (fault.code if code == "image_failed" else None)
    delivered = outcome.fault is None
    return Failure(
        stage=Stage.DELIVERY if delivered else Stage.GENERATION,
        status=intent.state.value,
        error_code=code,
        error_message=_shown(said or "the image failed; Mynth gave no details"),
        money=_money(intent.reserved_units, outcome.cost_units),
        next_step=(
            "Check the destination in Mynth's settings, then ask for this row again."
            if delivered
            else _next_for(code, "partial")
        ),
        retryable=code not in _NEVER_BETTER,
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


@dataclass(frozen=True)
class _Words:
    """How a state is told."""

    stage: Stage
    code: str
    message: str
    money: MoneyOutcome
    next_step: str
    retryable: bool = False


def _words_for_withheld(intent: Intent) -> _Words:
    code = code_of(intent.error_code, code_of(intent.reason, "withheld"))
    return _Words(
        Stage.SUBMISSION,
        code,
        intent.error_message or intent.reason or "held back before it was sent",
        MoneyOutcome.NOT_CHARGED,
        _NEXT_BY_REASON.get(code, "Materialize tasks again; the row is sent then."),
        retryable=True,
    )


def _words_for_sending(_intent: Intent) -> _Words:
    return _Words(
        Stage.SUBMISSION,
        "pending",
        "being sent",
        MoneyOutcome.UNKNOWN,
        "Wait for the run that is sending it.",
    )


def _words_for_accepted(intent: Intent) -> _Words:
    if intent.is_finished_remotely:
        return _words_for_unread(intent)
    return _Words(
        Stage.GENERATION,
        "pending",
        "accepted by Mynth, not finished yet",
        MoneyOutcome.UNKNOWN,
        "Wait: the completion sensor collects it, or materialize images again later.",
    )


def _words_for_unread(intent: Intent) -> _Words:
    return _Words(
        Stage.COLLECTION,
        "not_collected",
        "the task is finished, its result could not be read yet",
        MoneyOutcome.CHARGED if intent.charged_units else MoneyOutcome.UNKNOWN,
        "Materialize images again; reading a finished task is free.",
        retryable=True,
    )


def _words_for_stalled(_intent: Intent) -> _Words:
    return _Words(
        Stage.GENERATION,
        "deadline_passed",
        "accepted by Mynth, still not finished after the batch's deadline",
        MoneyOutcome.UNKNOWN,
        "Nothing is lost: it is collected whenever it finishes; "
        "materialize images later, or ask Mynth about the task id.",
    )


def _words_for_unresolved(intent: Intent) -> _Words:
    said = intent.error_message or intent.reason or "no complete answer came back"
    return _Words(
        Stage.SUBMISSION,
        "outcome_unknown",
        f"it may have been accepted: {said}",
        MoneyOutcome.UNKNOWN,
        "It is not sent again by itself; settling looks for its task. To decide by hand: "
        f"mynth-dagster resolve {intent.intent_id} --attach TASK_ID | --resubmit | --abandon.",
    )


def _words_for_cleared(_intent: Intent) -> _Words:
    return _Words(
        Stage.SUBMISSION,
        "not_accepted",
        "proved not to have been accepted by Mynth",
        MoneyOutcome.NOT_CHARGED,
        "Materialize tasks again; the row is sent then.",
        retryable=True,
    )


def _words_for_lost(intent: Intent) -> _Words:
    return _Words(
        Stage.COLLECTION,
        "task_lost",
        "Mynth says that it does not know the task",
        MoneyOutcome.UNKNOWN,
        "Check the task id and the account with Mynth; to give the row up or send it again: "
        f"mynth-dagster resolve {intent.intent_id} --abandon | --resubmit.",
    )


def _words_for_abandoned(intent: Intent) -> _Words:
    return _Words(
        Stage.SUBMISSION,
        "abandoned",
        intent.reason or "given up by a person; it may have been charged",
        MoneyOutcome.UNKNOWN,
        f"To ask for it anew: mynth-dagster resolve {intent.intent_id} --resubmit.",
    )


def _words_for_rejected(intent: Intent) -> _Words:
    return _Words(
        Stage.SUBMISSION,
        code_of(intent.error_code, "rejected"),
        intent.error_message or intent.reason or "Mynth refused this request",
        MoneyOutcome.NOT_CHARGED,
        "Correct this row in the prompt table, then materialize prompts and tasks again.",
    )


def _words_for_failed(intent: Intent, task: Task | None) -> _Words:
    code, said = _faults_in_words(intent, task)
    charged = task.cost_units if task and task.cost_units is not None else intent.charged_units
    return _Words(
        Stage.GENERATION,
        code,
        said,
        _money(intent.reserved_units, charged),
        _next_for(code, "failed"),
        retryable=code not in _NEVER_BETTER,
    )


_WORDS_BY_STATUS: dict[str, Callable[[Intent], _Words]] = {
    IntentState.WITHHELD.value: _words_for_withheld,
    IntentState.SENDING.value: _words_for_sending,
    IntentState.ACCEPTED.value: _words_for_accepted,
    STALLED: _words_for_stalled,
    IntentState.UNRESOLVED.value: _words_for_unresolved,
    IntentState.CLEARED.value: _words_for_cleared,
    IntentState.LOST.value: _words_for_lost,
    IntentState.ABANDONED.value: _words_for_abandoned,
    IntentState.REJECTED.value: _words_for_rejected,
    IntentState.COMPLETED.value: _words_for_unread,
    IntentState.PARTIAL.value: _words_for_unread,
}

_NEXT_BY_REASON = {
    "insufficient_balance": "Top up the balance at Mynth, then materialize tasks again.",
    "spending_limit": "Raise the key's spending limit or wait for its next period, then re-run.",
    "budget": "Raise the batch's budget, then materialize tasks again.",
    "budget_exceeded": "Raise the batch's budget, then materialize tasks again.",
    "unauthorized": "Give a valid API key, then materialize tasks again.",
    "rate_limited": "Wait a little, then materialize tasks again.",
}


def _faults_in_words(intent: Intent, task: Task | None) -> tuple[str, str]:
    """The first fault's code, and all distinct faults in words."""
    faults: Sequence[Fault] = task.faults if task else ()
    if not faults and task:
        faults = [image.fault for image in task.images if image.fault]
    if not faults and intent.error_code:
        faults = [Fault(intent.error_code, intent.error_message)]
    said = dict.fromkeys(fault.message or fault.code for fault in faults)
    code = code_of(faults[0].code, "image_failed") if faults else "task_failed"
    return code, "; ".join(said) or "the task failed; Mynth gave no details"


def _money(reserved_units: int | None, charged_units: int | None) -> MoneyOutcome:
    """A failed thing: what is charged is charged, a reservation is given back."""
    if charged_units:
        return MoneyOutcome.CHARGED
    if reserved_units is not None:
        return MoneyOutcome.REFUNDED
    return MoneyOutcome.UNKNOWN if charged_units is None else MoneyOutcome.NOT_CHARGED


def _next_for(code: str, retry: str) -> str:
    if code in _NEVER_BETTER:
        return "Edit this row: the same request would be refused again."
    return f"To pay for another try, submit again with retry: {retry}."


def _shown(text: str) -> str:
    return cut(text, MESSAGE_MAX_CHARS)
