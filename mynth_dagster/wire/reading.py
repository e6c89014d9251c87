"""
Tolerant readers of tasks: every spelling that any revision used, either envelope.

Each reader takes the operation's name for its errors and the parsed body.
Nothing here guesses: what is not at a known place is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.models.task import (
    IMAGE_TASK,
    CreatedTask,
    Fault,
    ImageOutcome,
    ListedTask,
    Task,
    TaskStatus,
)
from mynth_dagster.wire.cells import (
    cost_of,
    entries_of,
    first,
    mapping,
    missing,
    pixels_of,
    plain,
    task_id_of,
    text_of,
    time_of,
    unwrapped,
)

_TASK_ID_KEYS = ("task_id", "taskId")


def find_task_id(body: Any) -> str | None:
    """The id of a created task at any place where a revision puts it; never found by search."""
    if not isinstance(body, dict):
        return None
    for holder in (body.get("data"), body):
        task_id = task_id_of(first(holder, *_TASK_ID_KEYS))
        if task_id is not None:
            return task_id
    return None


def find_task_id_of_error(body: Any) -> str | None:
    """The id of the task that an error is about, in its object or, until 2026-10, beside it."""
    for holder in (mapping(body).get("error"), body):
        task_id = task_id_of(first(holder, *_TASK_ID_KEYS))
        if task_id is not None:
            return task_id
    return None


def decode_created(operation: str, body: Any, *, revision: str) -> CreatedTask:
    """The answer to a paid POST; only the id is indispensable."""
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
    """`GET /tasks/:id/status`; an answer that names another task than was asked for is none."""
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
        inspected_url=None if kind == IMAGE_TASK else _inspected_url(request, result),
        findings=None if _makes_images(kind, result) or not result else plain(result),
    )


def _makes_images(kind: str, result: Mapping[str, Any]) -> bool:
    return kind == IMAGE_TASK or "image" in result


def _images_of(result: Mapping[str, Any], default_format: str | None) -> tuple[ImageOutcome, ...]:
    """The list of a generation, or the one image that upscaling or cutting out made."""
    if "image" not in result:
        return decode_images(result.get("images"), default_format=default_format)
    image = mapping(result["image"])
    if text_of(image.get("id")) is None and text_of(image.get("mynth_url")) is None:
        return ()
    return (_delivered(0, image, default_format),)


def _inspected_url(request: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    return text_of(request.get("url")) or text_of(result.get("url"))


def decode_result(operation: str, body: Any, *, revision: str) -> tuple[ImageOutcome, ...]:
    """
    `GET /tasks/:id/results`, or `/result`: the images alone, as a token may read them.

    A failed task has none; why it failed is not told here.
    """
    payload = mapping(unwrapped(body))
    if payload.get("status") == "failed" and payload.get("result") is None:
        return ()
    result = mapping(payload.get("result")) or payload
    if "images" not in result and "image" not in result:
        raise missing(operation, "images", body, revision)
    return _images_of(result, None)


def decode_images(entries: Any, *, default_format: str | None) -> tuple[ImageOutcome, ...]:
    """The images of a result, in the order of the task."""
    return tuple(
        _image(index, mapping(entry), default_format)
        for index, entry in enumerate(entries_of(entries))
    )


def decode_page(operation: str, body: Any, *, revision: str) -> list[ListedTask]:
    """One page of `GET /tasks`, newest first."""
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
    """The code of a rating or delivery that failed beside an image that did not."""
    return _fault(part.get("error"), default).code if part.get("status") == "failed" else None


def _listed(entry: Mapping[str, Any]) -> ListedTask | None:
    task_id = task_id_of(entry.get("id"))
    if task_id is None:
        return None
    kind, status = _kind(entry.get("type")), _status(entry.get("status"))
    return ListedTask(task_id, kind, status, cost_of(entry.get("cost")))


def _kind(value: Any) -> str:
    """The type of a task; until 2026-04-02 those that make images were called `image`."""
    return IMAGE_TASK if value in (None, "", "image") else str(value)


def _task_cost(payload: Mapping[str, Any], result: Mapping[str, Any]) -> int | None:
    """Task level since 2026-05; before, the total of the result's own cost object."""
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
