"""
The wording of every state that delivers nothing: stage, code, money, and what to do next.

One place for tables, reports and the UI.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from mynth_dagster.errors import cut
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.task import Fault, Task
from mynth_dagster.models.transitions import STALLED, IntentState

MESSAGE_MAX_CHARS = 1_000  # long enough for any prose of the API, short enough for a table cell

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
NEVER_BETTER = frozenset(
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


def code_of(text: str | None, otherwise: str) -> str:
    """A code in lower snake case; prose and nothing become ``otherwise``."""
    lowered = (text or "").strip().lower().replace("-", "_")
    return lowered if _CODE.fullmatch(lowered) else otherwise


def is_retryable(intent: Intent) -> bool:
    """Whether asking for a failed or refused row again may end otherwise."""
    return intent.error_code is None or code_of(intent.error_code, "failed") not in NEVER_BETTER


@dataclass(frozen=True)
class Words:
    """How a state is told."""

    stage: Stage
    code: str
    message: str
    money: MoneyOutcome
    next_step: str
    retryable: bool = False


def _words_for_withheld(intent: Intent) -> Words:
    code = code_of(intent.error_code, code_of(intent.reason, "withheld"))
    return Words(
        Stage.SUBMISSION,
        code,
        intent.error_message or intent.reason or "held back before it was sent",
        MoneyOutcome.NOT_CHARGED,
        next_for_withheld(code),
        retryable=True,
    )


def _words_for_sending(_intent: Intent) -> Words:
    return Words(
        Stage.SUBMISSION,
        "pending",
        "being sent",
        MoneyOutcome.UNKNOWN,
        "Wait for the run that is sending it.",
    )


def _words_for_accepted(intent: Intent) -> Words:
    if intent.is_finished_remotely:
        return _words_for_unread(intent)
    return Words(
        Stage.GENERATION,
        "pending",
        "accepted by Mynth, not finished yet",
        MoneyOutcome.UNKNOWN,
        "Wait: the completion sensor collects it, or materialize images again later.",
    )


def _words_for_unread(intent: Intent) -> Words:
    return Words(
        Stage.COLLECTION,
        "not_collected",
        "the task is finished, its result could not be read yet",
        MoneyOutcome.CHARGED if intent.charged_units else MoneyOutcome.UNKNOWN,
        "Materialize images again; reading a finished task is free.",
        retryable=True,
    )


def _words_for_stalled(_intent: Intent) -> Words:
    return Words(
        Stage.GENERATION,
        "deadline_passed",
        "accepted by Mynth, still not finished after the batch's deadline",
        MoneyOutcome.UNKNOWN,
        "Nothing is lost: it is collected whenever it finishes; "
        "materialize images later, or ask Mynth about the task id.",
    )


def _words_for_unresolved(intent: Intent) -> Words:
    said = intent.error_message or intent.reason or "no complete answer came back"
    held = f"; held, since {intent.held_because}" if intent.held_because else ""
    return Words(
        Stage.SUBMISSION,
        "outcome_unknown",
        f"it may have been accepted: {said}{held}",
        MoneyOutcome.UNKNOWN,
        "It is not sent again by itself; settling looks for its task. To decide by hand: "
        f"mynth-dagster resolve {intent.intent_id} --attach TASK_ID | --resubmit | --abandon.",
    )


def _words_for_cleared(_intent: Intent) -> Words:
    return Words(
        Stage.SUBMISSION,
        "not_accepted",
        "proved not to have been accepted by Mynth",
        MoneyOutcome.NOT_CHARGED,
        "Materialize tasks again; the row is sent then.",
        retryable=True,
    )


def _words_for_lost(intent: Intent) -> Words:
    return Words(
        Stage.COLLECTION,
        "task_lost",
        "Mynth says that it does not know the task",
        MoneyOutcome.UNKNOWN,
        "Check the task id and the account with Mynth; to give the row up or send it again: "
        f"mynth-dagster resolve {intent.intent_id} --abandon | --resubmit.",
    )


def _words_for_abandoned(intent: Intent) -> Words:
    return Words(
        Stage.SUBMISSION,
        "abandoned",
        intent.reason or "given up by a person; it may have been charged",
        MoneyOutcome.UNKNOWN,
        f"To ask for it anew: mynth-dagster resolve {intent.intent_id} --resubmit.",
    )


def _words_for_rejected(intent: Intent) -> Words:
    return Words(
        Stage.SUBMISSION,
        code_of(intent.error_code, "rejected"),
        intent.error_message or intent.reason or "Mynth refused this request",
        MoneyOutcome.NOT_CHARGED,
        "Correct this row in the prompt table, then materialize prompts and tasks again.",
    )


def _words_for_failed(intent: Intent, task: Task | None) -> Words:
    code, said = _faults_in_words(intent, task)
    charged = task.cost_units if task and task.cost_units is not None else intent.charged_units
    return Words(
        Stage.GENERATION,
        code,
        said,
        money_of(intent.reserved_units, charged),
        next_for(code, "retryable"),
        retryable=code not in NEVER_BETTER,
    )


def words_for(status: str, intent: Intent, task: Task | None) -> Words:
    """How an intent that delivered nothing is told; `status` is the shown one."""
    if intent.state is IntentState.FAILED:
        return _words_for_failed(intent, task)
    return _WORDS_BY_STATUS[status](intent)


_WORDS_BY_STATUS: dict[str, Callable[[Intent], Words]] = {
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

UNSUPPORTED = "unsupported_by_revision"
"""The code of a row that was fine when prompts were checked, and is no longer expressible."""

_NEXT_BY_REASON = {
    UNSUPPORTED: "Materialize prompts again: they were checked for another API revision.",
    "insufficient_balance": "Top up the balance at Mynth, then materialize tasks again.",
    "spending_limit_exceeded": "Raise the key's limit or wait for its next period, then re-run.",
    "budget_exceeded": "Raise the batch's budget, then materialize tasks again.",
    "unauthorized": "Give a valid API key, then materialize tasks again.",
    "rate_limited": "Wait a little, then materialize tasks again.",
    "stopped": "Lift the stop with `mynth-dagster resume` or the batch's stop job; what is left is "
    "then sent by a run that the sensor starts.",
    "input_not_found": "Put the file back, then materialize prompts and tasks again.",
    "input_unreadable": "Make the file readable, then materialize tasks again.",
    "input_changed": "Materialize prompts again: the row is another wish with another file.",
    "input_refused": "Put another image in the file's place, then materialize prompts and tasks.",
    "upload_failed": "Materialize tasks again; uploading costs nothing.",
}


def next_for_withheld(code: str) -> str:
    """What to do about a row that was not sent, by the code of what stopped it."""
    return _NEXT_BY_REASON.get(
        code, "Materialize tasks for this partition again; only rows not asked for are sent."
    )


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


def money_of(reserved_units: int | None, charged_units: int | None) -> MoneyOutcome:
    """A failed thing: what is charged is charged, a reservation is given back."""
    if charged_units:
        return MoneyOutcome.CHARGED
    if reserved_units is not None:
        return MoneyOutcome.REFUNDED
    return MoneyOutcome.UNKNOWN if charged_units is None else MoneyOutcome.NOT_CHARGED


def next_for(code: str, retry: str) -> str:
    """What to do about a failure that was generated, with the retry that would ask for it."""
    if code in NEVER_BETTER:
        return "Edit this row: the same request would be refused again."
    return f"To pay for another try, submit again with retry: {retry}."


def shown(text: str) -> str:
    """Prose of any length, as long as a table's cell may be."""
    return cut(text, MESSAGE_MAX_CHARS)
