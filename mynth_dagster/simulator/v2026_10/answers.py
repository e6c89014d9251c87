"""
Tasks and errors of API revision 2026-10.

Snake case throughout; successes are wrapped in ``data``; errors are nested with codes in lower
case; an image has a format and no cost. A task of an earlier revision is spelled the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from mynth_dagster.simulator import completion, defaults
from mynth_dagster.simulator.completion import View
from mynth_dagster.simulator.defaults import format_cost, format_price
from mynth_dagster.simulator.scenario import Quirks
from mynth_dagster.simulator.tasks import Inspection, Order, Task, spell_instant
from mynth_dagster.simulator.validation import (
    MEDIA_TYPE,
    NOT_FOUND,
    RATE_LIMITED,
    SCOPE,
    UNAUTHORIZED,
    VALIDATION,
    Issue,
    Refusal,
)

SERVER_CODE = "internal_server_error"
USUAL_CODES = {
    **{reason.status: reason.code for reason in (UNAUTHORIZED, SCOPE, NOT_FOUND)},
    **{reason.status: reason.code for reason in (MEDIA_TYPE, RATE_LIMITED)},
    402: "insufficient_balance",
    503: "unavailable",
}
"""What a fault is called that has a status and no code of its own."""

BEST_SCORE = 4


def created(task: Task, token: str | None) -> dict[str, Any]:
    """The answer to a request that made a task."""
    data = {"task_id": task.task_id, "estimated_cost": format_price(task.reserved)}
    if token is not None:
        data["public_access_token"] = token
    return {"data": data}


def status(word: str) -> dict[str, Any]:
    """The answer of the status route."""
    return {"data": {"status": word}}


def result(task: Task, view: View) -> dict[str, Any]:
    """The answer of the result route: four keys, and never a reason."""
    return {
        "data": {
            "id": task.task_id,
            "type": task.type,
            "status": task.status,
            "result": _spell_result(task, view),
        }
    }


def detail(task: Task, view: View) -> dict[str, Any]:
    """The full task."""
    return {"data": _spell_task(task, view)}


def task_page(tasks: Iterable[Task]) -> dict[str, Any]:
    """One page of the task list."""
    return {
        "data": [
            {
                "id": task.task_id,
                "type": task.type,
                "status": task.status,
                "cost": _spell_cost(task),
                "created_at": spell_instant(task.created_us),
                "updated_at": spell_instant(task.updated_us),
            }
            for task in tasks
        ]
    }


def event(task: Task, view: View) -> dict[str, Any]:
    """A webhook's body: the full task under the id of the event, which no repetition changes."""
    return {
        "id": task.event_id,
        "type": f"task.{task.type}.{task.status}",
        "timestamp": spell_instant(task.updated_us),
        "data": _spell_task(task, view),
    }


def uploaded(urls: list[str]) -> dict[str, Any]:
    """The answer to an upload, one URL per file in the same order."""
    return {"data": {"urls": urls}}


def wrapped(data: object) -> dict[str, Any]:
    """Any other success."""
    return {"data": data}


def error(refusal: Refusal, quirks: Quirks) -> dict[str, Any]:  # noqa: ARG001 - one shape only
    """An error body; a validation error has an issue for each field, or one for the whole body."""
    code = refusal.reason.code
    if code == SERVER_CODE:
        code = USUAL_CODES.get(refusal.status, code)
    spelled: dict[str, Any] = {"code": code.lower(), "message": refusal.message, **refusal.extra}
    if refusal.reason is VALIDATION:
        issues = refusal.issues or (Issue((), refusal.message),)
        spelled["issues"] = [
            {"path": list(issue.path), "message": issue.message} for issue in issues
        ]
    return {"error": spelled}


def _spell_task(task: Task, view: View) -> dict[str, Any]:
    return {
        "id": task.task_id,
        "type": task.type,
        "status": task.status,
        "request": _echo(task, view.quirks),
        "result": _spell_result(task, view),
        "errors": _spell_errors(task),
        "cost": _spell_cost(task),
        "user_id": task.key.user_id,
        "api_key_id": task.key.key_id,
        "created_at": spell_instant(task.created_us),
        "updated_at": spell_instant(task.updated_us),
    }


def _spell_cost(task: Task) -> str | None:
    return None if task.cost is None or task.status == "failed" else format_cost(task.cost)


def _spell_errors(task: Task) -> list[dict[str, str]] | None:
    if task.status != "failed":
        return None
    return [_spell_error(task.outcome.code or defaults.PROVIDER_ERROR)]


def _spell_error(code: str) -> dict[str, str]:
    return {"code": code.lower(), "message": completion.message_of(code)}


def _echo(task: Task, quirks: Quirks) -> object:
    request = orjson.loads(task.body)
    if quirks.request_echo == "with_defaults" and isinstance(task.order, Order):
        request = {"model": "auto", "size": "auto", "count": 1, **request}
    webhook = request.get("webhook")
    if isinstance(webhook, dict) and "custom" in webhook:
        cut = [{**entry, "url": _cut(entry["url"])} for entry in webhook["custom"]]
        request["webhook"] = {**webhook, "custom": cut}
    return request


def _cut(url: str) -> str:
    """``scheme://host`` of a URL whose path may hold a secret."""
    found = re.match(r"(\w+://)(?:[^/?#]*@)?([^/?#]*)", url)
    return "" if found is None else found[1] + found[2]


def _spell_result(task: Task, view: View) -> dict[str, Any] | None:
    order = task.order
    if task.status != "completed":
        return None
    if isinstance(order, Inspection):
        return _spell_inspection(task, order)
    images = completion.images_of(task, view.base_url)
    if not isinstance(order, Order):
        return {"image": _spell_delivered(next(images), task, view)}
    spelled: dict[str, Any] = {
        "model": task.outcome.model,
        "images": [_spell_image(image, order, task, view) for image in images],
    }
    if order.enhancement == "magic":
        spelled["magic_prompt"] = {"positive": completion.enhanced_prompt(order)}
        if order.negative_prompt is not None:
            spelled["magic_prompt"]["negative"] = order.negative_prompt
    return spelled


def _spell_image(image: completion.Image, order: Order, task: Task, view: View) -> dict[str, Any]:
    if image.error_code is not None:
        return {"status": "failed", "error": _spell_error(image.error_code)}
    spelled = {"status": "success", **_spell_delivered(image, task, view)}
    if image.level is not None:
        is_unratable = view.unratable is not None and view.unratable in order.prompt
        spelled["rating"] = (
            {"status": "failed", "error": {"code": defaults.RATING_FAILED.lower()}}
            if is_unratable
            else {"status": "success", "level": image.level}
        )
    return spelled


def _spell_delivered(image: completion.Image, task: Task, view: View) -> dict[str, Any]:
    spelled: dict[str, Any] = {
        "id": image.image_id,
        "url": view.url_of(image, task),
        "mynth_url": image.url,
        "size": image.pixels,
        "format": image.format,
    }
    if image.destination is not None:
        spelled["destination"] = _spell_destination(image.destination, view)
    return spelled


def _spell_destination(name: str, view: View) -> dict[str, Any]:
    if name not in view.failing_destinations:
        return {"status": "success", "name": name}
    error = {
        "code": defaults.DESTINATION_FAILED.lower(),
        "message": defaults.DESTINATION_TEXT,
        "provider_response": defaults.PROVIDER_RESPONSE,
    }
    return {"status": "failed", "name": name, "error": error}


def _spell_inspection(task: Task, order: Inspection) -> dict[str, Any]:
    if order.type == "image.rate":
        _, level = next(completion.ratings_of(task))
        return {"level": level}
    if order.type == "image.alt":
        return {"alt": completion.describe(task, order.urls[0])}
    score = completion.score(task, order.urls[0])
    return {
        "score": score,
        "summary": defaults.REVIEW_SUMMARY,
        "findings": [] if score == BEST_SCORE else [dict(defaults.REVIEW_FINDING)],
        "strengths": [dict(defaults.REVIEW_STRENGTH)],
    }
