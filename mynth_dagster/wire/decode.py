"""
Tolerant readers of tasks: every spelling that any revision used, either envelope.

Each reader takes the operation's name for its errors and the parsed body.
Nothing here guesses: what is not at a known place is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from mynth_dagster import errors
from mynth_dagster.clock import us_from_utc
from mynth_dagster.errors import RefusedError, UnexpectedPayloadError, cut
from mynth_dagster.limits import COST_MAX_USD
from mynth_dagster.models.money import units_from_usd
from mynth_dagster.models.task import (
    IMAGE_TASK,
    Account,
    Balance,
    CatalogModel,
    CreatedTask,
    Estimate,
    Fault,
    ImageOutcome,
    ListedTask,
    ModelInputs,
    RegisteredWebhook,
    SpendingLimit,
    Task,
    TaskStatus,
)

# Tolerant reading of single values: what is not there, or is something else, is missing.
#
# Nothing here guesses, and nothing raises for what a server sends.


_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}")
_COST_MAX_UNITS = units_from_usd(COST_MAX_USD)
_PIXELS = re.compile(r"(\d{1,6})x(\d{1,6})")
_HAS_ODD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def parse_json(raw: bytes) -> Any:
    """
    Parse a body; None for anything that is not strict UTF-8 JSON.

    An object that names a field twice is none: readers differ in which of the two counts.

    Escaped characters that no database keeps (NUL, lone surrogates) become U+FFFD, so that such a
    text does not cost the task id beside it.
    """
    try:
        body = _STRICT.decode(raw.decode("utf-8"))
        return _storable(body) if _HAS_ODD_ESCAPE.search(raw) else body
    except (ValueError, RecursionError):
        return None


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(entry) for entry in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(entry) for key, entry in value.items()}
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _no_doubled_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


_STRICT = json.JSONDecoder(
    parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_no_doubled_names
)


def unwrapped(body: Any) -> Any:
    """Return the payload, in an envelope or not."""
    if isinstance(body, dict) and "data" in body:
        return body["data"]
    return body


def first(holder: Any, *names: str) -> Any:
    """Return the value of the first of these names that has one, or None."""
    if isinstance(holder, dict):
        for name in names:
            if holder.get(name) is not None:
                return holder[name]
    return None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return an object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def entries_of(value: Any) -> list[Any]:
    """Return a list, or an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str | None:
    """Return a text that is not empty, or None."""
    return value if isinstance(value, str) and value else None


def task_id_of(value: Any) -> str | None:
    """
    Return a task's id; None for what cannot be one.

    Ids are opaque. They become part of URLs, so a text that could lead elsewhere is no id.
    """
    is_id = isinstance(value, str) and _TASK_ID.fullmatch(value) is not None
    return value if is_id else None


def cost_of(value: Any) -> int | None:
    """
    Return a cost in units of 10⁻⁸ USD; None for what cannot be the price of one request.

    A negative amount, or an absurd one, is unknown: what is held for the request stays held.
    """
    units = money_of(value)
    return units if units is not None and 0 <= units <= _COST_MAX_UNITS else None


def money_of(value: Any) -> int | None:
    """Return an amount of USD in units of 10⁻⁸; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    return _units_of(value)


@lru_cache(maxsize=1024)
def _units_of(amount: str | int | Decimal) -> int | None:
    """Convert an amount; cached, since the responses of a whole table have a few prices."""
    try:
        return units_from_usd(amount)
    except ValueError:
        return None


def time_of(value: Any) -> int | None:
    """Return a time in UTC microseconds; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return us_from_utc(moment)
    except ValueError:
        return None


def pixels_of(size: Any) -> tuple[int | None, int | None]:
    """Return width and height, of `"1024x768"` or of an object."""
    if isinstance(size, Mapping):
        width, height = size.get("width"), size.get("height")
        both = isinstance(width, int) and isinstance(height, int)
        return (width, height) if both else (None, None)
    match = _PIXELS.fullmatch(size) if isinstance(size, str) else None
    return (int(match[1]), int(match[2])) if match else (None, None)


def plain(value: Any) -> Any:
    """Return the user's own JSON, with floats where money would be decimal."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def missing(operation: str, path: str, body: Any, revision: str) -> UnexpectedPayloadError:
    """Make the error for a missing value; it shows the shape of the body, never a value."""
    return UnexpectedPayloadError(operation, revision=revision, path=path, excerpt=_shape(body))


def _shape(body: Any, depth: int = 2) -> str:
    """Return the keys and types of a body, never its values: it may hold tokens."""
    if isinstance(body, Mapping):
        if depth == 0:
            return "{…}"
        shown = ", ".join(f"{key}: {_shape(body[key], depth - 1)}" for key in list(body)[:8])
        return f"{{{shown}}}"
    if isinstance(body, list):
        return f"[{len(body)} entries]"
    return type(body).__name__


_TASK_ID_KEYS = ("task_id", "taskId")


def find_task_id(body: Any) -> str | None:
    """Return the id of a created task from the places where revisions put it; never by search."""
    if not isinstance(body, dict):
        return None
    for holder in (body.get("data"), body):
        task_id = task_id_of(first(holder, *_TASK_ID_KEYS))
        if task_id is not None:
            return task_id
    return None


def find_task_id_of_error(body: Any) -> str | None:
    """Return the id of the task that an error is about, from its object or beside it."""
    for holder in (mapping(body).get("error"), body):
        task_id = task_id_of(first(holder, *_TASK_ID_KEYS))
        if task_id is not None:
            return task_id
    return None


def decode_created(operation: str, body: Any, *, revision: str) -> CreatedTask:
    """Read the response to a paid POST; only the id is indispensable."""
    task_id = find_task_id(body) or find_task_id_of_error(body)
    if task_id is None:
        raise missing(operation, "task id", body, revision)
    payload = mapping(unwrapped(body))
    access = mapping(payload.get("access"))
    token = first(payload, "public_access_token") or access.get("publicAccessToken")
    return CreatedTask(
        task_id=task_id,
        reserved_units=cost_of(first(payload, "estimated_cost", "estimatedCost")),
        token=token if isinstance(token, str) else None,
    )


def decode_status(operation: str, body: Any, *, revision: str, task_id: str) -> TaskStatus:
    """Read `GET /tasks/:id/status`; a response that names another task counts as none."""
    payload = mapping(unwrapped(body))
    if first(payload, "id", *_TASK_ID_KEYS) not in (None, task_id):
        raise missing(operation, "status of this task", body, revision)
    status = _status(payload.get("status"))
    if status is None:
        raise missing(operation, "status", body, revision)
    return status


def decode_full_task(
    operation: str, body: Any, *, revision: str, default_format: str | None
) -> Task:
    """`GET /tasks/:id`, in either revision's spelling."""
    payload = mapping(unwrapped(body))
    task_id, status = task_id_of(payload.get("id")), _status(payload.get("status"))
    if task_id is None or status is None:
        raise missing(operation, "task", body, revision)
    request, result = mapping(payload.get("request")), mapping(payload.get("result"))
    kind = _kind(payload.get("type"))
    image_format = mapping(request.get("output")).get("format") or default_format
    created = time_of(first(payload, "created_at", "createdAt"))
    updated = time_of(first(payload, "updated_at", "updatedAt"))
    return Task(
        task_id=task_id,
        status=status,
        created_at_us=created or updated or 0,
        updated_at_us=updated or created or 0,
        model=text_of(result.get("model")),
        images=_images_of(result, image_format),
        faults=tuple(_fault(entry, "task_failed") for entry in entries_of(payload.get("errors"))),
        cost_units=_task_cost(payload, result),
        metadata=plain(mapping(request.get("metadata"))),
        prompt_asked=_prompt_asked(request),
        prompt_sent=_prompt_sent(result),
        user_id=text_of(first(payload, "user_id", "userId")),
        api_key_id=text_of(first(payload, "api_key_id", "apiKeyId")),
        type=kind,
        image_url=None if kind == IMAGE_TASK else _image_url(request, result),
        findings=None if _makes_images(kind, result) or not result else plain(result),
    )


def _makes_images(kind: str, result: Mapping[str, Any]) -> bool:
    return kind == IMAGE_TASK or "image" in result


def _images_of(result: Mapping[str, Any], default_format: str | None) -> tuple[ImageOutcome, ...]:
    """Return the list of a generation, or the one image of another type of task."""
    if "image" not in result:
        return decode_images(result.get("images"), default_format=default_format)
    image = mapping(result["image"])
    if text_of(image.get("id")) is None and text_of(image.get("mynth_url")) is None:
        return ()
    return (_delivered(0, image, default_format),)


def _image_url(request: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    return text_of(request.get("url")) or text_of(result.get("url"))


def decode_result(operation: str, body: Any, *, revision: str) -> tuple[ImageOutcome, ...]:
    """
    `GET /tasks/:id/results`, or `/result`: the images alone, as a token may read them.

    A failed task has none; why it failed is not shown here.
    """
    payload = mapping(unwrapped(body))
    if payload.get("status") == "failed" and payload.get("result") is None:
        return ()
    result = mapping(payload.get("result")) or payload
    if "images" not in result and "image" not in result:
        raise missing(operation, "images", body, revision)
    return _images_of(result, None)


def decode_images(entries: Any, *, default_format: str | None) -> tuple[ImageOutcome, ...]:
    """Read the images of a result, in the order of the task."""
    return tuple(
        _image(index, mapping(entry), default_format)
        for index, entry in enumerate(entries_of(entries))
    )


def decode_page(operation: str, body: Any, *, revision: str) -> list[ListedTask]:
    """Read one page of `GET /tasks`, newest first."""
    entries = unwrapped(body)
    if not isinstance(entries, list):
        raise missing(operation, "list of tasks", body, revision)
    page = [_listed(mapping(entry)) for entry in entries]
    if any(task is None for task in page):
        raise missing(operation, "id of a listed task", body, revision)
    return [task for task in page if task is not None]


def _image(index: int, entry: Mapping[str, Any], default_format: str | None) -> ImageOutcome:
    if entry.get("status") not in ("success", "succeeded"):
        return ImageOutcome(index=index, fault=_fault(entry.get("error"), "image_failed"))
    return _delivered(index, entry, default_format)


def _delivered(index: int, entry: Mapping[str, Any], default_format: str | None) -> ImageOutcome:
    width, height = pixels_of(entry.get("size"))
    rating = mapping(first(entry, "rating", "content_rating"))
    destination = mapping(entry.get("destination"))
    return ImageOutcome(
        index=index,
        image_id=text_of(entry.get("id")),
        url=text_of(entry.get("url")),
        mynth_url=text_of(entry.get("mynth_url")),
        width=width,
        height=height,
        format=text_of(entry.get("format")) or default_format,
        cost_units=cost_of(entry.get("cost")),
        rating_level=text_of(rating.get("level")),
        rating_error=_code_of(rating, "rating_failed"),
        destination=text_of(destination.get("name")),
        destination_status=text_of(destination.get("status")),
        destination_error=_code_of(destination, "destination_failed"),
    )


def _code_of(part: Mapping[str, Any], default: str) -> str | None:
    """Return the code of a rating or delivery that failed although its image did not."""
    return _fault(part.get("error"), default).code if part.get("status") == "failed" else None


def _listed(entry: Mapping[str, Any]) -> ListedTask | None:
    task_id = task_id_of(entry.get("id"))
    if task_id is None:
        return None
    kind, status = _kind(entry.get("type")), _status(entry.get("status"))
    return ListedTask(task_id, kind, status, cost_of(entry.get("cost")))


def _kind(value: Any) -> str:
    """Return the type of a task; until 2026-04-02 those that make images were called `image`."""
    return IMAGE_TASK if value in (None, "", "image") else str(value)


def _task_cost(payload: Mapping[str, Any], result: Mapping[str, Any]) -> int | None:
    """Return a task's cost: its own since 2026-05; before, the total of the result's costs."""
    cost = cost_of(payload.get("cost"))
    return cost if cost is not None else cost_of(mapping(result.get("cost")).get("total"))


def _prompt_asked(request: Mapping[str, Any]) -> str | None:
    prompt = request.get("prompt")
    return text_of(mapping(prompt).get("positive") if isinstance(prompt, Mapping) else prompt)


def _prompt_sent(result: Mapping[str, Any]) -> str | None:
    enhanced = mapping(first(result, "magic_prompt", "prompt_enhance"))
    return text_of(enhanced.get("positive"))


def _fault(entry: Any, default_code: str) -> Fault:
    if isinstance(entry, str) and entry.strip():
        return Fault(default_code, entry)
    details = mapping(entry)
    code = text_of(details.get("code"))
    return Fault(code.lower() if code else default_code, text_of(details.get("message")))


def _status(value: Any) -> TaskStatus | None:
    return TaskStatus(value) if value in ("pending", "completed", "failed") else None


# Error responses of every revision, read into the one error tree.


KEY_CODES = frozenset({"unauthorized", "token_expired", "insufficient_scope", "forbidden_key"})
BALANCE_CODES = frozenset({"insufficient_balance"})
LIMIT_CODES = frozenset({"spending_limit_exceeded", "key_limit_exceeded"})
RATE_CODES = frozenset({"rate_limited", "too_many_requests"})
MALFORMED_CODES = frozenset({"invalid_json", "unsupported_media_type"})
"""Codes about the request as it was sent: no row is at fault, and every row would be refused."""
CREATED_CODES = frozenset({"public_access_token_failed"})
"""Codes of errors after which the task runs all the same; their response names it."""
ROUTE_CODES = frozenset({"not_found", "route_not_found", "method_not_allowed"})
"""Codes about an address, never a row: nothing at the place of the paid call takes requests."""

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
    Turn a response with an error status into its exception: by code first, by status second.

    Both body shapes are read (nested object; flat code and message), codes are compared in
    lower case. A 5xx stays a `ServerFaultError` whatever its code, since the server may have acted
    before it failed.

    Args:
        headers: With lower-case names.
        now_us: For a `Retry-After` that is a date; the response's own `Date` is preferred.
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
    Return the places that a refusal names, each as its steps from the root of the body.

    An empty path is the body as a whole. No path at all: the refusal names no place.
    """
    issues = _told_in(error.body).get("issues")
    if not isinstance(issues, list):
        return [tuple(error.field.split("."))] if error.field else []
    paths = (issue.get("path") for issue in issues if isinstance(issue, Mapping))
    return [tuple(map(str, path)) for path in paths if isinstance(path, list)]


def is_api_error(error: RefusedError) -> bool:
    """Whether the body is the API's own, and not a gateway's page."""
    return error.code is not None


def retry_after_s(headers: Mapping[str, str], *, now_us: int) -> float | None:
    """Return the seconds to wait, from a `Retry-After` with a number or a date, or None."""
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
    """Return the code in lower case, the message, and the field at fault."""
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
    """Return the part of a body that describes its error: a nested object, else the body."""
    fields = mapping(body)
    nested = fields.get("error")
    return nested if isinstance(nested, Mapping) else fields


def _first_issue_path(issues: Any) -> str | None:
    if not isinstance(issues, list) or not issues or not isinstance(issues[0], Mapping):
        return None
    path = issues[0].get("path")
    return str(path[0]) if isinstance(path, list) and path else None


def _page_excerpt(body: Any, raw: bytes) -> str:
    """Return the text of a gateway's page; empty if the body was JSON."""
    if body is not None:
        return ""
    return cut(_MARKUP.sub(" ", raw[:PAGE_MAX_BYTES].decode("utf-8", "replace")))


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


# Tolerant readers of accounts, prices, webhooks and uploads, in every revision's spelling.


IMAGE_MODEL = "image"
FROM_TEXT, FROM_IMAGES = "txt->img", "img->img"


def decode_estimate(operation: str, body: Any, *, revision: str) -> Estimate:
    """`POST /image/generate/estimate`."""
    payload = mapping(unwrapped(body))
    units = cost_of(first(payload, "estimated_cost", "estimatedCost"))
    if units is None:
        raise missing(operation, "estimated cost", body, revision)
    kind = first(payload, "estimate_kind", "estimateKind")
    return Estimate(units=units, exact=kind == "exact")


def decode_catalog(operation: str, body: Any, *, revision: str) -> dict[str, CatalogModel]:
    """Read `GET /models`: the models that make images, by id; a revision may list others too."""
    entries = unwrapped(body)
    if not isinstance(entries, list):
        raise missing(operation, "list of models", body, revision)
    models = [_catalog_model(mapping(entry)) for entry in entries if _is_image_model(entry)]
    return {model.model_id: model for model in models if model.model_id}


def decode_destinations(operation: str, body: Any, *, revision: str) -> frozenset[str]:
    """Read the names in `GET /destinations`."""
    entries = unwrapped(body)
    if not isinstance(entries, list):
        raise missing(operation, "list of destinations", body, revision)
    names = (text_of(mapping(entry).get("name")) for entry in entries)
    return frozenset(name for name in names if name)


def decode_account(operation: str, body: Any, *, revision: str) -> Account:
    """`GET /me`."""
    payload = mapping(unwrapped(body))
    user_id = text_of(first(payload, "user_id", "userId"))
    if user_id is None:
        raise missing(operation, "user id", body, revision)
    key = mapping(first(mapping(payload.get("auth")), "api_key", "apiKey"))
    scopes = key.get("scopes")
    return Account(
        user_id=user_id,
        key_id=text_of(key.get("id")),
        scopes=frozenset(map(str, scopes)) if isinstance(scopes, list) else None,
        spending=_spending(mapping(key.get("spending"))),
    )


def _spending(fields: Mapping[str, Any]) -> SpendingLimit | None:
    if fields.get("mode") == "unlimited":
        return SpendingLimit()
    limit_units = money_of(fields.get("limit"))
    if limit_units is None:
        return None
    return SpendingLimit(
        limit_units=limit_units,
        period=text_of(fields.get("period")),
        used_units=money_of(fields.get("used")),
        remaining_units=money_of(fields.get("remaining")),
    )


def decode_balance(operation: str, body: Any, *, revision: str) -> Balance:
    """`GET /balance`."""
    payload = mapping(unwrapped(body))
    amounts = [money_of(payload.get(name)) for name in ("balance", "reserved", "available")]
    if any(amount is None for amount in amounts):
        raise missing(operation, "balance, reserved or available", body, revision)
    balance, reserved, available = (amount or 0 for amount in amounts)
    return Balance(balance, reserved, available)


def decode_webhook(operation: str, body: Any, *, revision: str) -> RegisteredWebhook:
    """Read the response to the creation or the replacement of a webhook."""
    payload = mapping(unwrapped(body))
    webhook_id = text_of(payload.get("id"))
    if webhook_id is None:
        raise missing(operation, "webhook id", body, revision)
    return RegisteredWebhook(webhook_id, text_of(payload.get("secret")))


def decode_upload(operation: str, body: Any, *, revision: str) -> list[str]:
    """Read the response to `POST /image/upload`: one URL per file, in order."""
    urls = mapping(unwrapped(body)).get("urls")
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise missing(operation, "list of urls", body, revision)
    return urls


def _is_image_model(entry: Any) -> bool:
    """Whether a model makes images; revisions without a type list image models only."""
    return mapping(entry).get("type") in (None, IMAGE_MODEL)


def _catalog_model(entry: Mapping[str, Any]) -> CatalogModel:
    pricing = mapping(entry.get("pricing"))
    per_image = mapping(first(pricing, "per_image", "perImage"))
    modes = mapping(entry.get("modes"))
    tells_modes = FROM_TEXT in modes or FROM_IMAGES in modes
    base_units, base_4k_units = cost_of(per_image.get("base")), cost_of(per_image.get("4k"))
    # Where modes are told, a price for 4k is how Mynth says that 4k is served.
    lacks_4k = tells_modes and base_units is not None and base_4k_units is None
    return CatalogModel(
        model_id=text_of(entry.get("id")) or "",
        display_name=text_of(first(entry, "display_name", "displayName")),
        base_units=base_units,
        base_4k_units=base_4k_units,
        per_input_units=cost_of(first(pricing, "per_input", "perInput")),
        has_4k=False if lacks_4k else (True if base_4k_units is not None else None),
        takes_text=FROM_TEXT in modes if tells_modes else None,
        inputs=_model_inputs(modes) if tells_modes else None,
    )


def _model_inputs(modes: Mapping[str, Any]) -> ModelInputs:
    """Return how many images the model takes; rules are added up, unless the mode has a total."""
    if FROM_IMAGES not in modes:
        return ModelInputs(at_most=0)
    inputs = mapping(mapping(modes[FROM_IMAGES]).get("inputs"))
    rules = [mapping(rule) for rule in entries_of(inputs.get("rules"))]
    total = _whole(inputs.get("max_total"))
    if total is None and rules:
        each = [_whole(rule.get("max")) for rule in rules]
        total = None if None in each else sum(most or 0 for most in each)
    return ModelInputs(
        at_least=sum(_whole(rule.get("min")) or 0 for rule in rules),
        at_most=total,
    )


def _whole(value: Any) -> int | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_whole else None
