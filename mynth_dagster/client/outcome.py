"""
The outcome of a paid request, sorted by one question: *could Mynth have accepted it?*

Pure. `docs/guarantees.md` prints the rules; the engine acts on the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mynth_dagster.client.http import Response
from mynth_dagster.errors import (
    ApiError,
    InsufficientBalanceError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    SpendingLimitError,
    UnauthorizedError,
    UnexpectedPayloadError,
)
from mynth_dagster.limits import INTENT_TAG_KEY
from mynth_dagster.models.task import CreatedTask
from mynth_dagster.wire import decode
from mynth_dagster.wire.decode import parse_json
from mynth_dagster.wire.revision import RevisionProfile


class Cause(str, Enum):
    """Who has to act on a refusal."""

    ROW = "row"
    KEY = "key"
    BALANCE = "balance"
    LIMIT = "limit"
    RATE = "rate"
    CONFIG = "config"
    GATEWAY = "gateway"


@dataclass(frozen=True)
class Accepted:
    """Mynth created a task."""

    created: CreatedTask


@dataclass(frozen=True)
class Refused:
    """Mynth certainly created no task; `cause` shows who has to act."""

    error: RefusedError
    cause: Cause


@dataclass(frozen=True)
class NotSent:
    """Provably nothing left this machine."""

    error: NotSentError


@dataclass(frozen=True)
class Unknown:
    """
    Mynth may have created a task; nothing may be sent again until that is known.

    `is_foreign`: the response is a refusal that is not Mynth's own. A proxy gave it, before Mynth
    received the request or after.
    """

    error: ApiError
    http_status: int | None = None
    is_foreign: bool = False


PaidOutcome = Accepted | Refused | NotSent | Unknown

PROXY_REFUSED = 407
UNSUPPORTED_MEDIA_TYPE = 415
_POSSIBLY_TAKEN = frozenset({408, 409, 425, 499})


def sort_answer(
    operation: str, answer: Response, profile: RevisionProfile, *, now_us: int
) -> PaidOutcome:
    """Decide what a complete response to a paid POST proves."""
    body = parse_json(answer.body)
    if 200 <= answer.status < 300 and decode.find_task_id(body) is not None:
        return Accepted(decode.decode_created(operation, body, revision=profile.REVISION))
    if answer.status < 400:
        return Unknown(
            UnexpectedPayloadError(operation, revision=profile.REVISION, path="task id"),
            answer.status,
        )
    error = decode.decode_refusal(
        operation, answer.status, answer.headers, answer.body, now_us=now_us
    )
    is_created = error.code in decode.CREATED_CODES
    if is_created and decode.find_task_id_of_error(body) is not None:
        return Accepted(decode.decode_created(operation, body, revision=profile.REVISION))
    if answer.status >= 500 or answer.status in _POSSIBLY_TAKEN:
        return Unknown(error, answer.status)
    if not decode.is_api_error(error) or error.status == PROXY_REFUSED:
        return Unknown(error, answer.status, is_foreign=True)
    return Refused(error, cause_of(error, profile))


_CAUSE_BY_KIND: tuple[tuple[type[RefusedError], Cause], ...] = (
    (SpendingLimitError, Cause.LIMIT),
    (InsufficientBalanceError, Cause.BALANCE),
    (RateLimitedError, Cause.RATE),
)


def cause_of(error: RefusedError, profile: RevisionProfile) -> Cause:
    """Return who has to act, by code, then by status; a 4xx for an address stops the run."""
    for kind, cause in _CAUSE_BY_KIND:
        if isinstance(error, kind):
            return cause
    if isinstance(error, UnauthorizedError) and _is_about_the_key(error):
        return Cause.KEY
    if error.code in decode.ROUTE_CODES:
        return Cause.GATEWAY
    return Cause.CONFIG if _is_ours(error, profile) else Cause.ROW


def _is_ours(error: RefusedError, profile: RevisionProfile) -> bool:
    """Whether the request was refused for a field that we add, and not for the row's own."""
    if error.code in decode.MALFORMED_CODES or error.status == UNSUPPORTED_MEDIA_TYPE:
        return True
    paths = decode.complained_paths(error)
    if any(path and _is_own(path, profile) for path in paths):
        return True
    return bool(paths) and not any(paths)


def _is_own(path: tuple[str, ...], profile: RevisionProfile) -> bool:
    return path[0] in profile.OWN_FIELDS or path[:2] == ("metadata", INTENT_TAG_KEY)


def _is_about_the_key(error: UnauthorizedError) -> bool:
    """Whether the key is at fault: a 403 with a code may forbid one model; 407 is a proxy's."""
    return error.status == 401 or error.code in decode.KEY_CODES
