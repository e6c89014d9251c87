"""When to repeat a free read; pure. The paid call is never repeated here."""

from __future__ import annotations

from mynth_dagster.errors import (
    ApiError,
    NoAnswerError,
    NotSentError,
    RateLimitedError,
    ServerFaultError,
    UnexpectedPayloadError,
)
from mynth_dagster.limits import RETRY_AFTER_MAX_S, RETRY_DELAY_MAX_S, RETRY_DELAY_MIN_S

_PASSING = (NoAnswerError, NotSentError, RateLimitedError, ServerFaultError, UnexpectedPayloadError)


def may_pass_by_itself(error: ApiError) -> bool:
    """Whether the same read may well succeed later."""
    return isinstance(error, _PASSING)


def decide_retry_s(error: ApiError, *, attempt: int, attempts_max: int) -> float | None:
    """
    Seconds to wait before the next attempt of a free read, or None to give up.

    A `Retry-After` is obeyed up to `RETRY_AFTER_MAX_S`; a longer one means "not now".

    Args:
        attempt: The attempt that failed, 1-based.
    """
    if attempt >= attempts_max or not may_pass_by_itself(error):
        return None
    asked_s = getattr(error, "retry_after_s", None) or 0.0
    return None if asked_s > RETRY_AFTER_MAX_S else max(asked_s, backoff_s(attempt))


def backoff_s(attempt: int) -> float:
    """Doubling from `RETRY_DELAY_MIN_S`, at most `RETRY_DELAY_MAX_S`; ``attempt`` is 1-based."""
    return float(min(RETRY_DELAY_MIN_S * 2 ** min(attempt - 1, 16), RETRY_DELAY_MAX_S))
