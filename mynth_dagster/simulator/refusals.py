"""
Why the API says no, before a revision spells it.

Handlers raise one `Refusal`; each revision module owns its code style, body and envelope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """One kind of refusal: its code in lower snake case and its usual HTTP status."""

    code: str
    status: int


UNAUTHORIZED = Reason("unauthorized", 401)
VALIDATION = Reason("validation_error", 400)
RESTRICTED = Reason("restricted_content", 400)
BALANCE = Reason("insufficient_balance", 402)
SPENDING_LIMIT = Reason("spending_limit_exceeded", 402)  # the code is invented
RATE_LIMITED = Reason("rate_limited", 429)
NOT_FOUND = Reason("not_found", 404)  # the code is invented
METHOD = Reason("method_not_allowed", 405)  # code and status are invented
TOO_LARGE = Reason("payload_too_large", 413)  # code and status are invented
SERVER = Reason("internal_error", 500)  # the code is invented


class Refusal(Exception):  # noqa: N818 - an answer of the API, not an error of ours
    """
    An answer that says no.

    Args:
        reason: Kind of refusal.
        message: Prose for people; no client may branch on it.
        at: Path of the offending request field, ``inputs`` or ``output.quality``.
        status: HTTP status where it differs from the reason's usual one.
        extra: Further fields of the error object, such as a task id.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        at: str | None = None,
        status: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.at = at
        self.status = reason.status if status is None else status
        self.extra = dict(extra or {})


def invalid(at: str, complaint: str) -> Refusal:
    """A validation error that names the field."""
    return Refusal(VALIDATION, f"{at} {complaint}" if at else complaint, at=at or None)
