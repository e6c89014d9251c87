"""
Answers of API revision 2026-04.

No envelope; error bodies are nested with codes in lower case; an image that succeeded says
``succeeded``; costs are split inside the result; a failed task tells no reason.
"""

from __future__ import annotations

from typing import Any

import orjson

from mynth_dagster.simulator import completion, defaults
from mynth_dagster.simulator.completion import View
from mynth_dagster.simulator.defaults import format_cost
from mynth_dagster.simulator.scenario import Quirks
from mynth_dagster.simulator.tasks import Inspection, Order, Task, spell_instant
from mynth_dagster.simulator.validation import Refusal


def created(task: Task, token: str | None) -> dict[str, Any]:
    """The answer to a request that made a task; ratings are answered at once with results."""
    if isinstance(task.order, Inspection):
        return {"taskId": task.task_id, **_spell_inspection(task)}
    spelled: dict[str, Any] = {"taskId": task.task_id}
    if token is not None:
        spelled["access"] = {"publicAccessToken": token}
    return spelled


def status(word: str) -> dict[str, Any]:
    """The answer of the status route."""
    return {"status": word}


def result(task: Task, view: View) -> dict[str, Any]:
    """The answer of the results route; no images while there are none."""
    if isinstance(task.order, Inspection):
        return _spell_inspection(task)
    if not task.shows_images or not isinstance(task.order, Order):
        return {"images": []}
    return {"images": _spell_images(task, task.order, view)}


def detail(task: Task, view: View) -> dict[str, Any]:
    """The full task; ``result`` is absent while pending and after a failure without images."""
    spelled: dict[str, Any] = {
        "id": task.task_id,
        "type": task.type,
        "status": task.status,
        "userId": task.key.user_id,
        "apiKeyId": task.key.key_id,
        "cost": _spell_cost(task),
        "request": _echo(task, view.quirks),
        "createdAt": spell_instant(task.created_us),
        "updatedAt": spell_instant(task.updated_us),
    }
    if isinstance(task.order, Inspection):
        if task.status == "completed":
            spelled["result"] = _spell_inspection(task)
    elif task.shows_images and isinstance(task.order, Order):
        spelled["result"] = _spell_result(task, task.order, view)
    return spelled


def event(task: Task, view: View) -> dict[str, Any]:
    """A webhook's body; of a failed task it tells neither result nor reason."""
    spelled: dict[str, Any] = {
        "event": f"task.{task.type}.{task.status}",
        "task": {"id": task.task_id},
        "request": _echo(task, view.quirks),
    }
    if task.status == "completed" and isinstance(task.order, Order):
        spelled["result"] = _spell_result(task, task.order, view)
    elif task.status == "completed":
        spelled["result"] = _spell_inspection(task)
    return spelled


def uploaded(urls: list[str]) -> dict[str, Any]:
    """The answer to an upload, one URL per file in the same order."""
    return {"urls": urls}


def wrapped(data: object) -> object:
    """Any other success: itself, since this revision has no envelope."""
    return data


def error(refusal: Refusal, quirks: Quirks) -> dict[str, Any]:
    """An error body."""
    code = refusal.reason.code.lower()
    word = "error" if quirks.error_body == "flat_error" else "message"
    spelled: dict[str, Any] = {"code": code, word: refusal.message, **refusal.extra}
    if quirks.error_body != "nested":
        return spelled
    if refusal.at is not None:
        spelled["field"] = _top_field(refusal.at)
    return {"error": spelled}


def _top_field(at: str) -> str:
    return at.partition(".")[0].partition("[")[0]


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


def _spell_result(task: Task, order: Order, view: View) -> dict[str, Any]:
    assert task.cost is not None
    spelled: dict[str, Any] = {
        "model": task.outcome.model,
        "images": _spell_images(task, order, view),
        "cost": {"images": format_cost(task.cost), "total": format_cost(task.cost)},
    }
    if order.size == "auto":
        spelled["size_auto"] = {"source": order.auto_size_by, "value": task.outcome.pixels}
    if order.enhancement != "off":
        source = "mynth" if order.enhancement == "magic" else "native"
        spelled["prompt_enhance"] = {
            "source": source,
            "positive": completion.enhanced_prompt(order),
        }
    return spelled


def _spell_images(task: Task, order: Order, view: View) -> list[dict[str, Any]]:
    return [
        _spell_image(image, order, view.quirks)
        for image in completion.images_of(task, view.base_url)
    ]


def _spell_image(image: completion.Image, order: Order, quirks: Quirks) -> dict[str, Any]:
    if image.error_code is not None:
        return {"status": "failed", "error": completion.message_of(image.error_code)}
    spelled: dict[str, Any] = {
        "status": "succeeded",
        "id": image.image_id,
        "url": image.url,
        "cost": format_cost(image.cost),
        "size": _spell_pixels(image.pixels, quirks),
    }
    if image.level is not None:
        mode = "custom" if order.rates_custom else "default"
        spelled["content_rating"] = {"mode": mode, "level": image.level}
    return spelled


def _spell_pixels(pixels: str, quirks: Quirks) -> object:
    if not quirks.image_size_as_object:
        return pixels
    width, height = defaults.read_pixels(pixels)
    return {"width": width, "height": height}


def _spell_inspection(task: Task) -> dict[str, Any]:
    if task.status == "failed" or task.outcome.code is not None:
        assert isinstance(task.order, Inspection)
        code = (task.outcome.code or "").lower()
        return {"results": [{"url": url, "error_code": code} for url in task.order.urls]}
    rated = completion.ratings_of(task)
    return {"results": [{"url": url, "rating": level} for url, level in rated]}
