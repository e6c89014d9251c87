"""
Why the API says no, and how request bodies are read.

Endpoints raise one `Refusal`; each revision writes codes and error bodies in its own way. Request
bodies are pydantic models; this module has what the models of all revisions share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from mynth_dagster.limits import INTENT_TAG_KEY

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class ErrorCode:
    """One kind of refusal: its code in lower snake case and its usual HTTP status."""

    code: str
    status: int


UNAUTHORIZED = ErrorCode("unauthorized", 401)
TOKEN_EXPIRED = ErrorCode("token_expired", 401)
SCOPE = ErrorCode("insufficient_scope", 403)
VALIDATION = ErrorCode("validation_error", 400)
INVALID_JSON = ErrorCode("invalid_json", 400)
MEDIA_TYPE = ErrorCode("unsupported_media_type", 415)
RESTRICTED = ErrorCode("restricted_content", 400)
BALANCE = ErrorCode("insufficient_balance", 402)
SPENDING_LIMIT = ErrorCode("spending_limit_exceeded", 402)  # the code is invented before 2026-10
RATE_LIMITED = ErrorCode("rate_limited", 429)
NOT_FOUND = ErrorCode("not_found", 404)  # the code is invented before 2026-10
METHOD = ErrorCode("method_not_allowed", 405)  # code and status are invented
TOO_LARGE = ErrorCode("payload_too_large", 413)  # code and status are invented
SERVER = ErrorCode("internal_error", 500)  # the code is invented before 2026-10
TOKEN_FAILED = ErrorCode("public_access_token_failed", 500)
DESTINATION_TEST = ErrorCode("destination_test_failed", 502)


@dataclass(frozen=True)
class Issue:
    """What is wrong with one request field; the path is empty for the body as a whole."""

    path: Path
    message: str


class Refusal(Exception):  # noqa: N818 - an answer of the API, not an error of ours
    """
    An answer that says no.

    Args:
        error: Kind of refusal.
        message: Prose for people; no client may branch on it.
        status: HTTP status; None: the usual one.
        extra: Further fields of the error object, such as a task id.
        issues: What is wrong with each field of the request.
    """

    def __init__(
        self,
        error: ErrorCode,
        message: str,
        *,
        status: int | None = None,
        extra: Mapping[str, object] | None = None,
        issues: Sequence[Issue] = (),
    ) -> None:
        super().__init__(message)
        self.error = error
        self.message = message
        self.status = status
        self.extra = dict(extra or {})
        self.issues = issues


def invalid(field: str | Path, complaint: str) -> Refusal:
    """A refusal for one field: ``invalid("count", "must be 1 to 20")``."""
    path = (field,) if isinstance(field, str) else field
    message = f"{'.'.join(map(str, path))} {complaint}"
    return Refusal(VALIDATION, message, issues=[Issue(path, _as_sentence(complaint))])


# Request bodies.


class Body(BaseModel):
    """A JSON object of a request; nothing unknown is accepted, and no type is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LenientBody(Body):
    """The same until 2026-08: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class StrictableBody(LenientBody):
    """The same where unknown fields are refused if the scenario is strict about them."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any, info: ValidationInfo) -> Any:
        if info.context == {"strict": True} and isinstance(values, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            for name in values:
                if name not in known:
                    error: Any = {"type": "extra_forbidden", "loc": (name,), "input": None}
                    raise ValidationError.from_exception_data(cls.__name__, [error])
        return values


AnyBody = TypeVar("AnyBody", bound=Body)


def read_body(model: type[AnyBody], values: object, *, strict: bool = False) -> AnyBody:
    """
    A request body of a model.

    Raises:
        Refusal: With an issue for each field that is wrong; unknown fields come first.
    """
    try:
        return model.model_validate(values, context={"strict": strict})
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
    errors.sort(key=lambda error: error["type"] != "extra_forbidden")
    issues: dict[Path, Issue] = {}
    for error in errors:
        message = _MESSAGES.get(error["type"], error["msg"])
        if error["type"] == "value_error":
            message = str(error["ctx"]["error"])
        issues.setdefault(error["loc"], Issue(error["loc"], _as_sentence(message)))
    text = " ".join(f"{'.'.join(map(str, path))}: {i.message}" for path, i in issues.items())
    raise Refusal(VALIDATION, text, issues=list(issues.values()))


UNKNOWN = "Unknown field."
_MESSAGES = {
    "extra_forbidden": UNKNOWN,
    "missing": "Required.",
    "model_type": "Must be an object.",
    "dict_type": "Must be an object.",
    "list_type": "Must be an array.",
}


def _as_sentence(complaint: str) -> str:
    return complaint[:1].upper() + complaint[1:].removesuffix(".") + "."


def either(kind: type | Callable[[Any], bool], matching: Any, other: Any) -> PlainValidator:
    """
    Read values of one kind as one type, and any other value as another.

    A union would complain about each of its members; this complains about one.
    """
    adapters = TypeAdapter(other), TypeAdapter(matching)

    def read(value: object, info: ValidationInfo) -> object:
        is_match = isinstance(value, kind) if isinstance(kind, type) else kind(value)
        return adapters[is_match].validate_python(value, context=info.context)

    return PlainValidator(read)


def has_word(field: str, word: str) -> Callable[[Any], bool]:
    """Whether a value of a body is a JSON object with this word in a field."""
    return lambda value: isinstance(value, dict) and value.get(field) == word


def one_of(allowed: Collection[object]) -> AfterValidator:
    """One of some words; of what is known at run time only, where ``Literal`` cannot say it."""

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(map(str, allowed))}")
        return value

    return AfterValidator(check)


def _as_whole(value: object) -> object:
    return int(value) if type(value) is float and value.is_integer() else value


def _check_url(text: str) -> str:
    if not text.startswith(("http://", "https://", "data:")):
        raise ValueError("must be a URL")
    return text


def _check_web_url(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or not text.isprintable():
        raise ValueError("must be an http or https URL")
    return text


Text = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, BeforeValidator(_as_whole)]
"""A whole number; JSON's ``2.0`` is one."""

Url = Annotated[str, AfterValidator(_check_url)]
"""A web address, or a data URI."""

WebUrl = Annotated[str, AfterValidator(_check_web_url)]
"""An address that the API can fetch, or send to."""

Slug = Annotated[str, Field(min_length=1, pattern="^[a-z0-9-]+$")]


def at_most_bytes(max_bytes: int) -> AfterValidator:
    """A JSON object whose compact UTF-8 form fits."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        if len(orjson.dumps(value)) > max_bytes:
            raise ValueError(f"must not exceed {max_bytes} bytes as compact JSON")
        return value

    return AfterValidator(check)


def intent_tag_in(metadata: Mapping[str, Any]) -> str | None:
    """The client's own mark in a request's metadata."""
    tag = metadata.get(INTENT_TAG_KEY)
    return tag if isinstance(tag, str) else None
