"""
Checks of single request values; each refuses with the path of the field.

They know JSON types and bounds only; which field has which bound is a revision's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson

# Why the API says no, before a revision spells it.
#
# Handlers raise one `Refusal`; each revision module owns its code style, body and envelope, and
# renames reasons that it does not tell apart.


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


def as_object(value: object, at: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise invalid(at, "must be an object")
    return value


def as_list(value: object, at: str, *, fewest: int = 0, most: int | None = None) -> list[Any]:
    """A JSON array with a bounded number of items."""
    if not isinstance(value, list):
        raise invalid(at, "must be an array")
    if len(value) < fewest or (most is not None and len(value) > most):
        bounds = f"at least {fewest}" if most is None else f"{fewest} to {most}"
        raise invalid(at, f"must have {bounds} items")
    return value


def as_text(value: object, at: str, *, shortest: int = 0, longest: int | None = None) -> str:
    """A string with a bounded number of characters (Unicode code points)."""
    if type(value) is not str:
        raise invalid(at, "must be a string")
    n_chars = len(value)
    if n_chars < shortest or (longest is not None and n_chars > longest):
        bounds = f"at least {shortest}" if longest is None else f"{shortest} to {longest}"
        raise invalid(at, f"must have {bounds} characters")
    return value


def as_whole(value: object, at: str, *, low: int, high: int) -> int:
    """A whole number within bounds; JSON's ``2.0`` is one."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise invalid(at, "must be a whole number")
    if not low <= value <= high:
        raise invalid(at, f"must be {low} to {high}")
    return value


def as_flag(value: object, at: str) -> bool:
    """A JSON boolean."""
    if not isinstance(value, bool):
        raise invalid(at, "must be true or false")
    return value


def as_choice(value: object, at: str, allowed: Collection[str]) -> str:
    """One of some words."""
    if type(value) is not str or value not in allowed:
        raise invalid(at, f"must be one of {', '.join(allowed)}")
    return value


def as_url(value: object, at: str, *, longest: int | None = None) -> str:
    """A web address, or a data URI."""
    text = as_text(value, at, shortest=1, longest=longest)
    if not text.startswith(("http://", "https://", "data:")):
        raise invalid(at, "must be a URL")
    return text


def as_metadata(value: object, at: str, *, max_bytes: int) -> dict[str, Any]:
    """A JSON object whose compact UTF-8 form fits."""
    metadata = as_object(value, at)
    if len(orjson.dumps(metadata)) > max_bytes:
        raise invalid(at, f"must not exceed {max_bytes} bytes as compact JSON")
    return metadata


def refuse_unknown(values: Mapping[str, Any], known: Collection[str], at: str = "") -> None:
    """Refuse any key that is not known; only called when the scenario is strict about fields."""
    for key in values:
        if key not in known:
            raise invalid(f"{at}.{key}" if at else key, "is not a known field")


def as_web_url(value: object, at: str, *, longest: int | None = None) -> str:
    """An address that the API can fetch, or send to."""
    text = as_text(value, at, shortest=1, longest=longest)
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or not text.isprintable():
        raise invalid(at, "must be an http or https URL")
    return text


def as_slug(value: object, at: str, *, longest: int | None = None) -> str:
    """A name of lower-case letters, digits and dashes."""
    slug = as_text(value, at, shortest=1, longest=longest)
    if not all("0" <= letter <= "9" or "a" <= letter <= "z" or letter == "-" for letter in slug):
        raise invalid(at, "must consist of a-z, 0-9 and -")
    return slug


def as_number(value: object, at: str, *, allowed: Collection[int]) -> int:
    """One of some whole numbers."""
    if type(value) is not int or value not in allowed:
        raise invalid(at, f"must be one of {', '.join(map(str, allowed))}")
    return value


# Reading a request body to its end: every field that is wrong is told, not the first one only.
#
# A form is one JSON object of the body. Each reader of it gives a usable value even where the field
# is wrong, so that reading goes on; `finish` then refuses if anything was.


Value = TypeVar("Value")

UNKNOWN = "Unknown field."
REQUIRED = "Required."


class Form:
    """
    One JSON object of a request body.

    Args:
        values: What was sent, by field.
        path: Where the object is within the body; empty for the body itself.
        issues: Where to note what is wrong; shared by all forms of one body.
    """

    def __init__(
        self, values: Mapping[str, Any], path: Path = (), issues: list[Issue] | None = None
    ) -> None:
        self.values = values
        self.path = path
        self.issues = [] if issues is None else issues

    def __contains__(self, field: str) -> bool:
        return field in self.values

    def take(
        self,
        field: str,
        check: Callable[..., Value],
        fallback: Value,
        *,
        required: bool = False,
        **bounds: Any,
    ) -> Value:
        """A field's checked value; ``fallback`` if it is absent or wrong."""
        if field not in self.values:
            if required:
                self.complain((field,), REQUIRED)
            return fallback
        return self._check((field,), self.values[field], check, fallback, **bounds)

    def inner(self, field: str, *, required: bool = False) -> Form | None:
        """The object in a field; None if it is absent or no object."""
        if field not in self.values:
            if required:
                self.complain((field,), REQUIRED)
            return None
        return self.form_at((field,), self.values[field])

    def form_at(self, steps: Path, value: object) -> Form | None:
        """A value as a form; None, and noted, if it is no object."""
        if not isinstance(value, dict):
            self.complain(steps, "must be an object")
            return None
        return Form(value, (*self.path, *steps), self.issues)

    def take_each(
        self, field: str, read: Callable[[Path, Any], Value], **bounds: int | None
    ) -> list[Value]:
        """The entries of an array, each read with its steps from here; empty if absent or wrong."""
        fallback: list[Any] = []
        entries = self.take(field, as_list, fallback, required=False, **bounds)
        return [read((field, i), entry) for i, entry in enumerate(entries)]

    def check_at(
        self, steps: Path, value: object, check: Callable[..., Value], fallback: Value
    ) -> Value:
        """A checked value that is not simply a field, such as an entry of an array."""
        return self._check(steps, value, check, fallback)

    def complain(self, steps: Path, complaint: str) -> None:
        """Note what is wrong; the first complaint about a field is the one that is told."""
        path = (*self.path, *steps)
        if all(issue.path != path for issue in self.issues):
            self.issues.append(Issue(path, as_sentence(complaint)))

    def close(self, known: Collection[str]) -> None:
        """Note every field that is not known."""
        for field in self.values:
            if field not in known:
                self.complain((field,), UNKNOWN)

    def finish(self) -> None:
        """
        Refuse if anything was wrong.

        Raises:
            Refusal: With one issue for each field.
        """
        if self.issues:
            message = " ".join(map(_spell, self.issues))
            raise Refusal(VALIDATION, message, issues=self.issues)

    def _check(
        self,
        steps: Path,
        value: object,
        check: Callable[..., Value],
        fallback: Value,
        **bounds: Any,
    ) -> Value:
        try:
            return check(value, "", **bounds)
        except Refusal as refusal:
            self.complain(steps, refusal.message)
            return fallback


def _spell(issue: Issue) -> str:
    at = ".".join(map(str, issue.path))
    return f"{at}: {issue.message}" if at else issue.message
