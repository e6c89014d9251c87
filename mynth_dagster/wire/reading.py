"""
Tolerant readers: every spelling that any revision used, either envelope, either word for success.

Each reader takes the operation's name for its errors and the parsed body.
Nothing here guesses: what is not at a known place is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from mynth_dagster.clock import us_from_utc
from mynth_dagster.errors import UnexpectedPayloadError
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
    RegisteredWebhook,
    Task,
    TaskStatus,
)

_TASK_ID_KEYS = ("task_id", "taskId")
_PIXELS = re.compile(r"(\d{1,6})x(\d{1,6})")
_HAS_ODD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def parse_json(raw: bytes) -> Any:
    """
    The parsed body, or None for anything that is not strict UTF-8 JSON.

    Escaped characters that no database keeps (NUL, lone surrogates) become U+FFFD:
    a text must not stand in the way of the task id beside it.
    """
    try:
        body = _STRICT.decode(raw.decode("utf-8"))
        return _storable(body) if _HAS_ODD_ESCAPE.search(raw) else body
    except (ValueError, RecursionError):
        return None


def find_task_id(body: Any) -> str | None:
    """The id of a created task at any place where a revision puts it; never found by search."""
    if not isinstance(body, dict):
        return None
    for holder in (body.get("data"), body, body.get("error")):
        value = _first(holder, *_TASK_ID_KEYS)
        if isinstance(value, str) and value.strip():
            return value
    return None


def decode_created(operation: str, body: Any, *, revision: str) -> CreatedTask:
    """The answer to a paid POST; only the id is indispensable."""
    task_id = find_task_id(body)
    if task_id is None:
        raise _missing(operation, "task id", body, revision)
    payload = _mapping(_unwrapped(body))
    access = _mapping(payload.get("access"))
    token = _first(payload, "public_access_token") or access.get("publicAccessToken")
    return CreatedTask(
        task_id=task_id,
        reserved_units=_money(_first(payload, "estimated_cost", "estimatedCost")),
        token=token if isinstance(token, str) else None,
    )


def decode_status(operation: str, body: Any, *, revision: str) -> TaskStatus:
    """`GET /tasks/:id/status`."""
    status = _status(_mapping(_unwrapped(body)).get("status"))
    if status is None:
        raise _missing(operation, "status", body, revision)
    return status


def decode_full_task(
    operation: str, body: Any, *, revision: str, default_format: str | None
) -> Task:
    """`GET /tasks/:id`, in either revision's spelling."""
    payload = _mapping(_unwrapped(body))
    task_id, status = payload.get("id"), _status(payload.get("status"))
    if not isinstance(task_id, str) or status is None:
        raise _missing(operation, "task", body, revision)
    request, result = _mapping(payload.get("request")), _mapping(payload.get("result"))
    kind = _kind(payload.get("type"))
    image_format = _mapping(request.get("output")).get("format") or default_format
    created = _time(_first(payload, "created_at", "createdAt"))
    updated = _time(_first(payload, "updated_at", "updatedAt"))
    return Task(
        task_id=task_id,
        status=status,
        created_at_us=created or updated or 0,
        updated_at_us=updated or created or 0,
        model=_text(result.get("model")),
        images=decode_images(result.get("images"), default_format=image_format),
        faults=tuple(_fault(entry, "task_failed") for entry in _list(payload.get("errors"))),
        cost_units=_task_cost(payload, result),
        metadata=_plain(_mapping(request.get("metadata"))),
        prompt_sent=_prompt_sent(result),
        user_id=_text(_first(payload, "user_id", "userId")),
        api_key_id=_text(_first(payload, "api_key_id", "apiKeyId")),
        type=kind,
        inspected_url=None if kind == IMAGE_TASK else _text(request.get("url")),
        findings=None if kind == IMAGE_TASK or not result else _plain(result),
    )


def decode_result(operation: str, body: Any, *, revision: str) -> tuple[ImageOutcome, ...]:
    """`GET /tasks/:id/results`, or `/result`: the images alone, as a token may read them."""
    payload = _mapping(_unwrapped(body))
    result = _mapping(payload.get("result")) or payload
    if "images" not in result:
        raise _missing(operation, "images", body, revision)
    return decode_images(result.get("images"), default_format=None)


def decode_images(entries: Any, *, default_format: str | None) -> tuple[ImageOutcome, ...]:
    """The images of a result, in the order of the task."""
    return tuple(
        _image(index, _mapping(entry), default_format) for index, entry in enumerate(_list(entries))
    )


def decode_page(operation: str, body: Any, *, revision: str) -> list[ListedTask]:
    """One page of `GET /tasks`, newest first."""
    entries = _unwrapped(body)
    if not isinstance(entries, list):
        raise _missing(operation, "list of tasks", body, revision)
    page = [_listed(_mapping(entry)) for entry in entries]
    if any(task is None for task in page):
        raise _missing(operation, "id, status or time of a listed task", body, revision)
    return [task for task in page if task is not None]


def decode_estimate(operation: str, body: Any, *, revision: str) -> Estimate:
    """`POST /image/generate/estimate`."""
    payload = _mapping(_unwrapped(body))
    units = _money(_first(payload, "estimated_cost", "estimatedCost"))
    if units is None:
        raise _missing(operation, "estimated cost", body, revision)
    kind = _first(payload, "estimate_kind", "estimateKind")
    return Estimate(units=units, exact=kind == "exact")


def decode_catalog(operation: str, body: Any, *, revision: str) -> dict[str, CatalogModel]:
    """`GET /models`, by model id."""
    entries = _unwrapped(body)
    if not isinstance(entries, list):
        raise _missing(operation, "list of models", body, revision)
    models = [_catalog_model(_mapping(entry)) for entry in entries]
    return {model.model_id: model for model in models if model.model_id}


def decode_account(operation: str, body: Any, *, revision: str) -> Account:
    """`GET /me`."""
    payload = _mapping(_unwrapped(body))
    user_id = _text(_first(payload, "user_id", "userId"))
    if user_id is None:
        raise _missing(operation, "user id", body, revision)
    key = _mapping(_first(_mapping(payload.get("auth")), "api_key", "apiKey"))
    return Account(user_id=user_id, key_id=_text(key.get("id")))


def decode_balance(operation: str, body: Any, *, revision: str) -> Balance:
    """`GET /balance`."""
    payload = _mapping(_unwrapped(body))
    amounts = [_money(payload.get(name)) for name in ("balance", "reserved", "available")]
    if any(amount is None for amount in amounts):
        raise _missing(operation, "balance, reserved or available", body, revision)
    balance, reserved, available = (amount or 0 for amount in amounts)
    return Balance(balance, reserved, available)


def decode_webhook(operation: str, body: Any, *, revision: str) -> RegisteredWebhook:
    """`POST /webhook` and `PUT /webhook/:id`."""
    payload = _mapping(_unwrapped(body))
    webhook_id = _text(payload.get("id"))
    if webhook_id is None:
        raise _missing(operation, "webhook id", body, revision)
    return RegisteredWebhook(webhook_id, _text(payload.get("secret")))


def decode_upload(operation: str, body: Any, *, revision: str) -> list[str]:
    """`POST /image/upload`: one URL per file, in order."""
    urls = _mapping(_unwrapped(body)).get("urls")
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise _missing(operation, "list of urls", body, revision)
    return urls


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(entry) for entry in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(entry) for key, entry in value.items()}
    return value


def _unwrapped(body: Any) -> Any:
    if isinstance(body, dict) and "data" in body:
        return body["data"]
    return body


def _image(index: int, entry: Mapping[str, Any], default_format: str | None) -> ImageOutcome:
    if entry.get("status") not in ("success", "succeeded"):
        return ImageOutcome(index=index, fault=_fault(entry.get("error"), "image_failed"))
    width, height = _pixels(entry.get("size"))
    rating = _mapping(_first(entry, "rating", "content_rating"))
    destination = _mapping(entry.get("destination"))
    return ImageOutcome(
        index=index,
        image_id=_text(entry.get("id")),
        url=_text(entry.get("url")),
        mynth_url=_text(entry.get("mynth_url")),
        width=width,
        height=height,
        format=_text(entry.get("format")) or default_format,
        cost_units=_money(entry.get("cost")),
        rating_level=_text(rating.get("level")),
        rating_error=_code_of(rating, "rating_failed"),
        destination=_text(destination.get("name")),
        destination_status=_text(destination.get("status")),
        destination_error=_code_of(destination, "destination_failed"),
    )


def _code_of(part: Mapping[str, Any], default: str) -> str | None:
    """The code of a rating or delivery that failed beside an image that did not."""
    return _fault(part.get("error"), default).code if part.get("status") == "failed" else None


def _listed(entry: Mapping[str, Any]) -> ListedTask | None:
    task_id, status = entry.get("id"), _status(entry.get("status"))
    created = _time(_first(entry, "created_at", "createdAt"))
    if not isinstance(task_id, str) or status is None or created is None:
        return None
    kind = _kind(entry.get("type"))
    return ListedTask(task_id, kind, status, _money(entry.get("cost")), created)


def _kind(value: Any) -> str:
    """The type of a task; until 2026-04-02 those that make images were called `image`."""
    return IMAGE_TASK if value in (None, "", "image") else str(value)


def _catalog_model(entry: Mapping[str, Any]) -> CatalogModel:
    pricing = _mapping(entry.get("pricing"))
    per_image = _mapping(_first(pricing, "per_image", "perImage"))
    return CatalogModel(
        model_id=_text(entry.get("id")) or "",
        display_name=_text(_first(entry, "display_name", "displayName")),
        base_units=_money(per_image.get("base")),
        base_4k_units=_money(per_image.get("4k")),
        per_input_units=_money(_first(pricing, "per_input", "perInput")),
    )


def _task_cost(payload: Mapping[str, Any], result: Mapping[str, Any]) -> int | None:
    """Task level since 2026-05; before, the total of the result's own cost object."""
    cost = _money(payload.get("cost"))
    return cost if cost is not None else _money(_mapping(result.get("cost")).get("total"))


def _prompt_sent(result: Mapping[str, Any]) -> str | None:
    enhanced = _mapping(_first(result, "magic_prompt", "prompt_enhance"))
    return _text(enhanced.get("positive"))


def _fault(entry: Any, default_code: str) -> Fault:
    if isinstance(entry, str) and entry.strip():
        return Fault(default_code, entry)
    details = _mapping(entry)
    code = _text(details.get("code"))
    return Fault(code.lower() if code else default_code, _text(details.get("message")))


def _status(value: Any) -> TaskStatus | None:
    return TaskStatus(value) if value in ("pending", "completed", "failed") else None


def _pixels(size: Any) -> tuple[int | None, int | None]:
    if isinstance(size, Mapping):
        width, height = size.get("width"), size.get("height")
        both = isinstance(width, int) and isinstance(height, int)
        return (width, height) if both else (None, None)
    match = _PIXELS.fullmatch(size) if isinstance(size, str) else None
    return (int(match[1]), int(match[2])) if match else (None, None)


def _money(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    try:
        return units_from_usd(value)
    except ValueError:
        return None


def _time(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return us_from_utc(moment)
    except ValueError:
        return None


def _first(holder: Any, *names: str) -> Any:
    if isinstance(holder, dict):
        for name in names:
            if holder.get(name) is not None:
                return holder[name]
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _plain(value: Any) -> Any:
    """The user's own JSON, with floats where money would be decimal."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_STRICT = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


def _missing(operation: str, path: str, body: Any, revision: str) -> UnexpectedPayloadError:
    return UnexpectedPayloadError(operation, revision=revision, path=path, excerpt=_shape(body))


def _shape(body: Any, depth: int = 2) -> str:
    """The keys and types of a body, never its values: an answer may hold tokens."""
    if isinstance(body, Mapping):
        if depth == 0:
            return "{…}"
        shown = ", ".join(f"{key}: {_shape(body[key], depth - 1)}" for key in list(body)[:8])
        return f"{{{shown}}}"
    if isinstance(body, list):
        return f"[{len(body)} entries]"
    return type(body).__name__
