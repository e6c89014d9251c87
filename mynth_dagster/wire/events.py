"""
Webhooks of revisions 2026-04 and 2026-08, which spell them alike but for the result.

The receiver needs an event's name and task only; whoever works the inbox reads the rest.
An event that does not tell all of its task is not completed by guesses: the task is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeGuard

from mynth_dagster.models.task import Task, TaskEvent, TaskStatus
from mynth_dagster.wire.reading import decode_full_task

FINAL_EVENTS: MappingProxyType[str, TaskStatus] = MappingProxyType(
    {
        "task.image.generate.completed": TaskStatus.COMPLETED,
        "task.image.generate.failed": TaskStatus.FAILED,
        "task.image.rate.completed": TaskStatus.COMPLETED,
        "task.image.rate.failed": TaskStatus.FAILED,
        "task.image.alt.completed": TaskStatus.COMPLETED,
        "task.image.alt.failed": TaskStatus.FAILED,
        "task.image.review.completed": TaskStatus.COMPLETED,
        "task.image.review.failed": TaskStatus.FAILED,
    }
)
"""The events that finish one of our tasks; no other changes anything."""

NAME_MAX_CHARS = 100
TASK_ID_MAX_CHARS = 200

_PRICED_EXTRAS = ("magic_prompt", "rating", "content_rating", "inputs")


def read_name_and_task(body: Any) -> tuple[str, str] | None:
    """The event's name and its task's id; None where the body is no event."""
    if not isinstance(body, Mapping) or not isinstance(body.get("task"), Mapping):
        return None
    name, task_id = body.get("event"), body["task"].get("id")
    if not _is_text(name, NAME_MAX_CHARS) or not _is_text(task_id, TASK_ID_MAX_CHARS):
        return None
    return name, task_id


def decode_event(body: Any, *, default_format: str | None, at_us: int) -> TaskEvent | None:
    """
    What an event says; None where it does not finish an image task.

    Args:
        body: The parsed body.
        default_format: Of images, where the request asked for none.
        at_us: Stands for the task's end, which events do not tell; UTC microseconds.
    """
    named = read_name_and_task(body)
    if named is None or named[0] not in FINAL_EVENTS:
        return None
    name, task_id = named
    status = FINAL_EVENTS[name]
    told = decode_full_task(
        name, _as_task(name, body, status), revision="event", default_format=default_format
    )
    told = replace(told, created_at_us=at_us, updated_at_us=at_us)
    if told.images and told.cost_units is None:
        told = replace(told, cost_units=_sum_of_costs(body, told))
    return TaskEvent(task_id, status, told.metadata, told if _is_whole(told) else None)


def _as_task(name: str, body: Mapping[str, Any], status: TaskStatus) -> dict[str, Any]:
    """The event in the shape of a full task."""
    return {
        "type": name.removeprefix("task.").rpartition(".")[0],
        "id": body["task"]["id"],
        "status": status.value,
        "request": body.get("request"),
        "result": body.get("result"),
        "errors": body.get("errors"),
        "cost": body["task"].get("cost"),
    }


def _is_whole(told: Task) -> bool:
    """A failure without a reason, or a result without its price, may be told by a reading."""
    if told.status is TaskStatus.FAILED:
        return bool(told.faults)
    return told.n_delivered + len(told.images) > 0 and told.cost_units is not None


def _sum_of_costs(body: Mapping[str, Any], told: Task) -> int | None:
    """The images' costs together; None where something else may have been charged beside them."""
    request = body.get("request")
    if not isinstance(request, Mapping) or _has_priced_extras(request):
        return None
    costs = [image.cost_units for image in told.images if image.delivered]
    return None if None in costs else sum(cost or 0 for cost in costs)


def _has_priced_extras(request: Mapping[str, Any]) -> bool:
    prompt = request.get("prompt")
    is_enhanced = isinstance(prompt, Mapping) and prompt.get("enhance")
    return bool(is_enhanced) or any(request.get(name) for name in _PRICED_EXTRAS)


def _is_text(value: object, max_chars: int) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= max_chars and bool(value.strip())
