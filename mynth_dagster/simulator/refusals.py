"""
Why the API says no, before a revision spells it.

Handlers raise one `Refusal`; each revision module owns its code style, body and envelope, and
renames reasons that it does not tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Reason:
    """One kind of refusal: its code in lower snake case and its usual HTTP status."""

    code: str
    status: int


UNAUTHORIZED = Reason("unauthorized", 401)
TOKEN_EXPIRED = Reason("token_expired", 401)
SCOPE = Reason("insufficient_scope", 403)
VALIDATION = Reason("validation_error", 400)
INVALID_JSON = Reason("invalid_json", 400)
MEDIA_TYPE = Reason("unsupported_media_type", 415)
RESTRICTED = Reason("restricted_content", 400)
BALANCE = Reason("insufficient_balance", 402)
SPENDING_LIMIT = Reason("spending_limit_exceeded", 402)  # the code is invented before 2026-10
RATE_LIMITED = Reason("rate_limited", 429)
NOT_FOUND = Reason("not_found", 404)  # the code is invented before 2026-10
METHOD = Reason("method_not_allowed", 405)  # code and status are invented
TOO_LARGE = Reason("payload_too_large", 413)  # code and status are invented
SERVER = Reason("internal_error", 500)  # the code is invented before 2026-10
TOKEN_FAILED = Reason("public_access_token_failed", 500)
DESTINATION_TEST = Reason("destination_test_failed", 502)


@dataclass(frozen=True)
class Issue:
    """What is wrong with one request field; the path is empty for the body as a whole."""

    path: Path
    message: str


class Refusal(Exception):  # noqa: N818 - an answer of the API, not an error of ours
    """
    An answer that says no.

    Args:
        reason: Kind of refusal.
        message: Prose for people; no client may branch on it.
        at: Path of the offending request field, ``inputs`` or ``output.quality``.
        status: HTTP status where it differs from the reason's usual one.
        extra: Further fields of the error object, such as a task id.
        issues: Each offending field; empty where only one is looked for.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        at: str | None = None,
        status: int | None = None,
        extra: Mapping[str, object] | None = None,
        issues: Iterable[Issue] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.at = at
        self.status = reason.status if status is None else status
        self.extra = dict(extra or {})
        self.issues = tuple(issues)
        self._own_status = status

    def renamed(self, names: Mapping[Reason, Reason]) -> Refusal:
        """The same refusal for the reason that a revision has in place of this one."""
        reason = names.get(self.reason)
        if reason is None:
            return self
        return Refusal(
            reason,
            self.message,
            at=self.at,
            status=self._own_status,
            extra=self.extra,
            issues=self.issues,
        )


def invalid(at: str, complaint: str) -> Refusal:
    """A validation error that names the field."""
    message = f"{at} {complaint}" if at else complaint
    issue = Issue(_path_of(at), as_sentence(complaint))
    return Refusal(VALIDATION, message, at=at or None, issues=[issue])


def as_sentence(complaint: str) -> str:
    """``must be a string`` as ``Must be a string.``"""
    return complaint[:1].upper() + complaint[1:].removesuffix(".") + "."


def _path_of(at: str) -> Path:
    steps = re.findall(r"[^.\[\]]+", at)
    return tuple(int(step) if step.isdigit() else step for step in steps)
