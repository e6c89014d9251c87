"""Error answers of every revision, read into the one error tree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from mynth_dagster import errors
from mynth_dagster.errors import RefusedError, cut
from mynth_dagster.wire.cells import mapping, parse_json

KEY_CODES = frozenset({"unauthorized", "token_expired", "insufficient_scope", "forbidden_key"})
BALANCE_CODES = frozenset({"insufficient_balance"})
LIMIT_CODES = frozenset({"spending_limit_exceeded", "key_limit_exceeded"})
RATE_CODES = frozenset({"rate_limited", "too_many_requests"})
MALFORMED_CODES = frozenset({"invalid_json", "unsupported_media_type"})
"""Said of the request as it was sent: no row can be at fault, and every row would be refused."""
CREATED_CODES = frozenset({"public_access_token_failed"})
"""Errors after which the task runs all the same; their answer names it."""
ROUTE_CODES = frozenset({"not_found", "route_not_found", "method_not_allowed"})
"""Said of an address, never of a row: nothing at the place of the paid call takes requests."""

PAGE_MAX_BYTES = 8192

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_MARKUP = re.compile(
    r"<!--.*?-->|<(style|script|head)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE
)

_BY_CODE: dict[str, type[RefusedError]] = {
    **dict.fromkeys(KEY_CODES, errors.UnauthorizedError),
    **dict.fromkeys(BALANCE_CODES, errors.InsufficientBalanceError),
    **dict.fromkeys(LIMIT_CODES, errors.SpendingLimitError),
    **dict.fromkeys(RATE_CODES, errors.RateLimitedError),
    "validation_error": errors.InvalidRequestError,
    "restricted_content": errors.InvalidRequestError,
    "capability_not_supported": errors.InvalidRequestError,
    "not_found": errors.NotFoundError,
}
_BY_STATUS: dict[int, type[RefusedError]] = {
    401: errors.UnauthorizedError,
    402: errors.InsufficientBalanceError,
    403: errors.UnauthorizedError,
    404: errors.NotFoundError,
    407: errors.UnauthorizedError,
    429: errors.RateLimitedError,
}


def decode_refusal(
    operation: str, status: int, headers: Mapping[str, str], raw: bytes, *, now_us: int
) -> RefusedError:
    """
    An answer with an error status as the exception it means: by code first, by status second.

    Both body shapes are read (nested object; flat code and message), codes are compared in
    lower case. A 5xx stays a `ServerFaultError` whatever it says, since the server may have
    acted before it failed.

    Args:
        headers: With lower-case names.
        now_us: For a `Retry-After` that is a date; the answer's own `Date` is preferred.
    """
    body = parse_json(raw)
    code, message, field = _read_error(body)
    return _error_class(status, code)(
        operation,
        status=status,
        code=code,
        message=message or _page_excerpt(body, raw),
        field=field,
        body=body,
        retry_after_s=retry_after_s(headers, now_us=now_us),
    )


def complained_paths(error: RefusedError) -> list[tuple[str, ...]]:
    """
    The places that a refusal names, each as its steps from the root of the body.

    An empty path is the body as a whole. No path at all: the refusal names no place.
    """
    issues = _told_in(error.body).get("issues")
    if not isinstance(issues, list):
        return [tuple(error.field.split("."))] if error.field else []
    paths = (issue.get("path") for issue in issues if isinstance(issue, Mapping))
    return [tuple(map(str, path)) for path in paths if isinstance(path, list)]


def is_api_error(error: RefusedError) -> bool:
    """Whether the body was the API's own, and not a gateway's page."""
    return error.code is not None


def retry_after_s(headers: Mapping[str, str], *, now_us: int) -> float | None:
    """Seconds to wait as the answer says, from a number or a date; None where it says nothing."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    now = _http_date(headers.get("date", "")) or datetime.fromtimestamp(now_us / 1e6, timezone.utc)
    return max(0.0, (until - now).total_seconds())


def _error_class(status: int, code: str | None) -> type[RefusedError]:
    if status >= 500:
        return errors.ServerFaultError
    if status == 404 and code is None:
        return errors.RefusedError  # of whoever stands in between: it does not know our tasks
    by_code = _BY_CODE.get(code or "")
    return by_code or _BY_STATUS.get(status, errors.InvalidRequestError)


def _read_error(body: Any) -> tuple[str | None, str, str | None]:
    """Code in lower case, message, and the field that is complained about."""
    if not isinstance(body, Mapping):
        return None, "", None
    nested, source = body.get("error"), _told_in(body)
    code = source.get("code")
    message = source.get("message")
    if isinstance(nested, str) and nested:
        message = nested
    field = source.get("field") or _first_issue_path(source.get("issues"))
    return (
        code.lower() if isinstance(code, str) and code else None,
        message if isinstance(message, str) else "",
        field if isinstance(field, str) else None,
    )


def _told_in(body: Any) -> Mapping[str, Any]:
    """What a body tells of its error: a nested object, else the body itself."""
    told = mapping(body)
    nested = told.get("error")
    return nested if isinstance(nested, Mapping) else told


def _first_issue_path(issues: Any) -> str | None:
    if not isinstance(issues, list) or not issues or not isinstance(issues[0], Mapping):
        return None
    path = issues[0].get("path")
    return str(path[0]) if isinstance(path, list) and path else None


def _page_excerpt(body: Any, raw: bytes) -> str:
    """The words of a gateway's page; nothing where the body was JSON."""
    if body is not None:
        return ""
    return cut(_MARKUP.sub(" ", raw[:PAGE_MAX_BYTES].decode("utf-8", "replace")))


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
