"""Failures: why a row or an image is missing, what became of its money, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from mynth_dagster.errors import cut
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.task import Fault, ImageOutcome, Task
from mynth_dagster.models.transitions import STALLED, IntentState

# The wording of every state that delivers nothing: stage, code, money, and what to do next.
#
# One place for tables, reports and the UI.


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
    """The stage that a row or image reached."""

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
    """Return a code in lower snake case; prose and an empty text become ``otherwise``."""
    lowered = (text or "").strip().lower().replace("-", "_")
    return lowered if _CODE.fullmatch(lowered) else otherwise


def is_retryable(intent: Intent) -> bool:
    """Whether another try of a failed or refused row may end otherwise."""
    return intent.error_code is None or code_of(intent.error_code, "failed") not in NEVER_BETTER


@dataclass(frozen=True)
class Words:
    """The wording of a state."""

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
    message = intent.error_message or intent.reason or "no complete answer came back"
    held = f"; held, since {intent.held_because}" if intent.held_because else ""
    return Words(
        Stage.SUBMISSION,
        "outcome_unknown",
        f"it may have been accepted: {message}{held}",
        MoneyOutcome.UNKNOWN,
        "It is not sent again by itself; the next search looks for its task. To decide by hand: "
        f"mynth-dagster resolve {intent.intent_id} --attach TASK_ID | --resubmit | --abandon.",
    )


def _words_for_not_accepted(_intent: Intent) -> Words:
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
        f"To send it again: mynth-dagster resolve {intent.intent_id} --resubmit.",
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
    code, message = _faults_in_words(intent, task)
    charged = task.cost_units if task and task.cost_units is not None else intent.charged_units
    return Words(
        Stage.GENERATION,
        code,
        message,
        money_of(intent.reserved_units, charged),
        next_for(code, "retryable"),
        retryable=code not in NEVER_BETTER,
    )


def words_for(status: str, intent: Intent, task: Task | None) -> Words:
    """Return the wording for an intent that delivered nothing; `status` is the shown one."""
    if intent.state is IntentState.FAILED:
        return _words_for_failed(intent, task)
    return _WORDS_BY_STATUS[status](intent)


_WORDS_BY_STATUS: dict[str, Callable[[Intent], Words]] = {
    IntentState.WITHHELD.value: _words_for_withheld,
    IntentState.SENDING.value: _words_for_sending,
    IntentState.ACCEPTED.value: _words_for_accepted,
    STALLED: _words_for_stalled,
    IntentState.UNRESOLVED.value: _words_for_unresolved,
    IntentState.NOT_ACCEPTED.value: _words_for_not_accepted,
    IntentState.LOST.value: _words_for_lost,
    IntentState.ABANDONED.value: _words_for_abandoned,
    IntentState.REJECTED.value: _words_for_rejected,
    IntentState.COMPLETED.value: _words_for_unread,
    IntentState.PARTIAL.value: _words_for_unread,
}

UNSUPPORTED = "unsupported_by_revision"
"""The code of a row that was valid when prompts were checked, and is no longer expressible."""

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
    "input_changed": "Materialize prompts again: with another file the row asks for another image.",
    "input_refused": "Put another image in the file's place, then materialize prompts and tasks.",
    "upload_failed": "Materialize tasks again; uploading costs nothing.",
}


def next_for_withheld(code: str) -> str:
    """Return what to do about a row that was not sent, by the code of what stopped it."""
    return _NEXT_BY_REASON.get(
        code, "Materialize tasks for this partition again; only rows that are missing are sent."
    )


def _faults_in_words(intent: Intent, task: Task | None) -> tuple[str, str]:
    """Return the first fault's code, and a description of all distinct faults."""
    faults: Sequence[Fault] = task.faults if task else ()
    if not faults and task:
        faults = [image.fault for image in task.images if image.fault]
    if not faults and intent.error_code:
        faults = [Fault(intent.error_code, intent.error_message)]
    message = dict.fromkeys(fault.message or fault.code for fault in faults)
    code = code_of(faults[0].code, "image_failed") if faults else "task_failed"
    return code, "; ".join(message) or "the task failed; Mynth gave no details"


def money_of(reserved_units: int | None, charged_units: int | None) -> MoneyOutcome:
    """Return the money's fate of a failure: a charge stays, a reservation is given back."""
    if charged_units:
        return MoneyOutcome.CHARGED
    if reserved_units is not None:
        return MoneyOutcome.REFUNDED
    return MoneyOutcome.UNKNOWN if charged_units is None else MoneyOutcome.NOT_CHARGED


def next_for(code: str, retry: str) -> str:
    """Return what to do about a failed generation, with the retry that would send it again."""
    if code in NEVER_BETTER:
        return "Edit this row: the same request would be refused again."
    return f"To pay for another try, submit again with retry: {retry}."


def shown(text: str) -> str:
    """Cut prose to the length of a table's cell."""
    return cut(text, MESSAGE_MAX_CHARS)


REJECTED_INPUT = "rejected_input"
"""Status of a row that failed our own checks and was never sent."""
NOT_SUBMITTED = "not_submitted"
"""Status of a valid row that was not sent yet."""


@dataclass(frozen=True)
class Failure:
    """
    One row of the failure table, without the row's own columns.

    Args:
        stage: The stage that it reached.
        status: The intent's shown status, `rejected_input` or `not_submitted`; also `withheld`
            for a row that was not sent since the run stopped before it.
        error_code: Lower snake case.
        next_step: One sentence a user can act on.
        retryable: Another try may end otherwise and pays for nothing twice.
        attempts: How often delivery was tried; 0 if never.
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
Problem codes that depend on the present files, models, revision and account.

Images that were delivered before such a problem stay.
"""


def says_nothing_of_the_past(code: str) -> bool:
    """Whether a row that is rejected for this may have been fine, and paid for, before."""
    return re.match(SAYS_NOTHING_OF_THE_PAST, code) is not None


def is_readable(code: str) -> bool:
    """Whether a row that is rejected for this can still be read in full."""
    return code in _OF_THE_SERVER


def failure_of_problem(code: str, field: str | None, message: str) -> Failure:
    """Make the failure of a row that our own checks rejected; it was never sent."""
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
    """Make the failure of a valid row that was not sent; withheld if a run stopped before it."""
    code = code_of(stop_code, NOT_SUBMITTED)
    return Failure(
        stage=Stage.SUBMISSION,
        status=IntentState.WITHHELD.value if stop_code else NOT_SUBMITTED,
        error_code=code,
        error_message="the last run stopped before it" if stop_code else "not sent yet",
        money=MoneyOutcome.NOT_CHARGED,
        next_step=next_for_withheld(code),
        retryable=True,
    )


def failure_of_intent(intent: Intent, *, now_us: int, task: Task | None = None) -> Failure:
    """
    Make the failure of an intent that delivered nothing, in any state.

    ``task`` carries the faults of a finished task. A `completed` or `partial` intent gets one only
    if its task could not be read.
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
    """Make the failure of an image that failed in a delivering task, or was not delivered."""
    lost = Fault(
        outcome.destination_error or "destination_failed", "the destination did not take the image"
    )
    fault = outcome.fault or lost
    code = code_of(fault.code, "image_failed")
    message = fault.message or (fault.code if code == "image_failed" else None)
    delivered = outcome.fault is None
    return Failure(
        stage=Stage.DELIVERY if delivered else Stage.GENERATION,
        status=intent.state.value,
        error_code=code,
        error_message=shown(message or "the image failed; Mynth gave no details"),
        money=money_of(intent.reserved_units, outcome.cost_units),
        next_step=(
            "Check the destination in Mynth's settings, then send this row again."
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
    """Make the failure of a requested image that the finished task does not mention."""
    outcome = ImageOutcome(
        image_index,
        fault=Fault("image_missing", "the finished task has no such image"),
    )
    return failure_of_image(intent, outcome)


# The result of an image's download: a kept file, or why there is none. Pure.


_AGAIN = "Materialize files again; downloading is free."
_PAID_ONCE = "It was paid for; for another image, submit again with force: true and its prompt id."
_NEXT_BY_CODE = {
    "url_expired": f"Mynth serves it no longer. {_PAID_ONCE}",
    "no_url": "It lies in your own storage, which gives no URL: fetch it from there.",
    "unsafe_url": "If you trust its host: add it to image_hosts, then materialize files again.",
    "too_many_redirects": "If you trust its host: ask there for a direct URL.",
    "wrong_type": f"Look at its URL: it serves no PNG, JPEG or WebP. {_PAID_ONCE}",
    "too_large": "Raise files.max_bytes, then materialize files again.",
    "too_many_pixels": "Raise files.max_pixels, then materialize files again.",
}
_FINAL_CODES = frozenset({"url_expired", "no_url", "wrong_type"})


class DownloadState(str, Enum):
    """State of a download: `failed` is tried again with the next run; `kept` never changes."""

    KEPT = "kept"
    FAILED = "failed"


@dataclass(frozen=True)
class KeptFile:
    """
    An image in the store, as it was verified.

    Args:
        uri: Where it is, as its readers spell it; a plain path in a local store.
        sha256: In hex, of the bytes as they came.
        format: `png`, `jpg` or `webp`, by its first bytes.
        width: Pixels, by its own header.
        height: Pixels, by its own header.
    """

    uri: str
    n_bytes: int
    sha256: str
    format: str
    width: int
    height: int


@dataclass(frozen=True)
class Download:
    """
    The download of one image of an intent; exactly one of `file` and `code` is set.

    Args:
        image_index: 0-based within the request.
        code: Why there is no file, in lower snake case.
    """

    intent_id: str
    image_index: int
    at_us: int
    file: KeptFile | None = None
    code: str | None = None
    message: str | None = None
    http_status: int | None = None

    @property
    def state(self) -> DownloadState:
        return DownloadState.KEPT if self.file is not None else DownloadState.FAILED


def failure_of_download(intent: Intent, download: Download) -> Failure:
    """Make the failure of an image that was paid for and delivered, and has no file."""
    code = download.code or "download_failed"
    return Failure(
        stage=Stage.DOWNLOAD,
        status=intent.state.value,
        error_code=code,
        error_message=shown(download.message or code),
        money=MoneyOutcome.CHARGED if intent.charged_units else MoneyOutcome.UNKNOWN,
        next_step=_NEXT_BY_CODE.get(code, _AGAIN),
        retryable=code not in _FINAL_CODES,
        attempts=intent.attempt,
        image_index=download.image_index,
        http_status=download.http_status,
        task_id=intent.task_id,
        intent_id=intent.intent_id,
    )
