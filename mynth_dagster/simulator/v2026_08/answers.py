"""
Answers of API revision 2026-08.

Successes are wrapped in ``data``; error bodies are flat with codes in upper case; an image that
succeeded says ``success``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from mynth_dagster.simulator import completion, defaults
from mynth_dagster.simulator.completion import View
from mynth_dagster.simulator.defaults import format_cost, format_price
from mynth_dagster.simulator.scenario import Quirks
from mynth_dagster.simulator.tasks import Inspection, Order, Task, spell_instant
from mynth_dagster.simulator.validation import Refusal


def created(task: Task, token: str | None) -> dict[str, Any]:
    """The answer to a request that made a task."""
    data: dict[str, Any] = {"taskId": task.task_id, "estimatedCost": format_price(task.reserved)}
    if token is not None:
        data["access"] = {"publicAccessToken": token}
    return {"data": data}


def status(word: str) -> dict[str, Any]:
    """The answer of the status route."""
    return {"data": {"status": word}}


def result(task: Task, view: View) -> dict[str, Any]:
    """The answer of the result route; a task without a result has null."""
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
    return {
        "data": {
            "id": task.task_id,
            "type": task.type,
            "status": task.status,
            "userId": task.key.user_id,
            "apiKeyId": task.key.key_id,
            "cost": _spell_cost(task),
            "request": _echo(task, view.quirks),
            "result": _spell_result(task, view),
            "errors": _spell_errors(task),
            "createdAt": spell_instant(task.created_us),
            "updatedAt": spell_instant(task.updated_us),
        }
    }


def task_page(tasks: Iterable[Task]) -> dict[str, Any]:
    """One page of the task list."""
    return {
        "data": [
            {
                "id": task.task_id,
                "type": task.type,
                "status": task.status,
                "cost": _spell_cost(task),
                "createdAt": spell_instant(task.created_us),
                "updatedAt": spell_instant(task.updated_us),
            }
            for task in tasks
        ]
    }


def event(task: Task, view: View) -> dict[str, Any]:
    """A webhook's body: no envelope, and what a failed task lacks is absent."""
    told: dict[str, Any] = {"id": task.task_id}
    if view.quirks.event_tells_cost:
        told["cost"] = _spell_cost(task)
    spelled: dict[str, Any] = {
        "event": f"task.{task.type}.{task.status}",
        "task": told,
        "request": _echo(task, view.quirks),
    }
    if task.status == "completed":
        spelled["result"] = _spell_result(task, view)
    else:
        spelled["errors"] = _spell_reasons(task)
    return spelled


def uploaded(urls: list[str]) -> dict[str, Any]:
    """The answer to an upload, one URL per file in the same order."""
    return {"data": {"urls": urls}}


def wrapped(data: object) -> dict[str, Any]:
    """Any other success."""
    return {"data": data}


def error(refusal: Refusal, quirks: Quirks) -> dict[str, Any]:
    """An error body."""
    code = refusal.reason.code.upper()
    if quirks.error_body == "nested":
        return {"error": {"code": code, "message": refusal.message, **refusal.extra}}
    word = "error" if quirks.error_body == "flat_error" else "message"
    return {"code": code, word: refusal.message, **refusal.extra}


def _spell_cost(task: Task) -> str | None:
    return None if task.cost is None or task.status == "failed" else format_cost(task.cost)


def _echo(task: Task, quirks: Quirks) -> object:
    if quirks.request_echo == "as_submitted" or not isinstance(task.order, Order):
        return orjson.Fragment(task.body)
    order = task.order
    filled_in = {
        "model": "auto",
        "size": "auto",
        "count": 1,
        "output": {"format": task.outcome.format, "quality": order.quality or defaults.QUALITY},
    }
    return {**filled_in, **orjson.loads(task.body)}


def _spell_errors(task: Task) -> list[dict[str, str]] | None:
    if task.status != "failed" or task.shows_images:
        return None
    return _spell_reasons(task)


def _spell_reasons(task: Task) -> list[dict[str, str]]:
    code = task.outcome.code
    return [] if code is None else [{"code": code, "message": completion.message_of(code)}]


def _spell_result(task: Task, view: View) -> dict[str, Any] | None:
    if isinstance(task.order, Inspection):
        return _spell_inspection(task) if task.status == "completed" else None
    if not task.shows_images or not isinstance(task.order, Order):
        return None
    spelled: dict[str, Any] = {
        "model": task.outcome.model,
        "images": [
            _spell_image(image, task.order, view)
            for image in completion.images_of(task, view.base_url)
        ],
    }
    if task.order.enhancement == "magic":
        spelled["magic_prompt"] = {"positive": completion.enhanced_prompt(task.order)}
        if task.order.negative_prompt is not None:
            spelled["magic_prompt"]["negative"] = task.order.negative_prompt
    return spelled


def _has_public_url(destination: str | None, view: View) -> bool:
    return destination not in (*view.private_destinations, *view.failing_destinations)


def _spell_image(image: completion.Image, order: Order, view: View) -> dict[str, Any]:
    if image.error_code is not None:
        message = completion.message_of(image.error_code)
        return {"status": "failed", "error": {"code": image.error_code, "message": message}}
    spell = format_price if view.quirks.image_cost_trimmed else format_cost
    spelled: dict[str, Any] = {
        "status": "success",
        "id": image.image_id,
        "url": image.url if _has_public_url(order.destination, view) else None,
        "mynth_url": image.url,
        "size": image.pixels,
        "cost": spell(image.cost),
    }
    if image.level is not None:
        spelled["rating"] = _spell_rating(image.level, order, view)
    if order.destination is not None:
        spelled["destination"] = _spell_destination(order.destination, view)
    return spelled


def _spell_rating(level: str, order: Order, view: View) -> dict[str, Any]:
    if view.unratable is not None and view.unratable in order.prompt:
        return {"status": "failed", "error": {"code": defaults.RATING_FAILED}}
    return {"status": "success", "level": level}


def _spell_destination(name: str, view: View) -> dict[str, Any]:
    if name in view.failing_destinations:
        error = {"code": defaults.DESTINATION_FAILED, "message": defaults.DESTINATION_TEXT}
        return {"status": "failed", "name": name, "error": error}
    return {"status": "success", "name": name}


def _spell_inspection(task: Task) -> dict[str, Any]:
    assert isinstance(task.order, Inspection)
    url = task.order.urls[0]
    if task.type == "image.rate":
        rated, level = next(completion.ratings_of(task))
        return {"url": rated, "level": level}
    if task.type == "image.alt":
        return {"url": url, "alt": completion.describe(task, url)}
    return {
        "url": url,
        "score": completion.score(task, url),
        "summary": defaults.REVIEW_SUMMARY,
        "findings": [dict(defaults.REVIEW_FINDING)],
        "strengths": [dict(defaults.REVIEW_STRENGTH)],
    }
