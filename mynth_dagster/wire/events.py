"""
Webhook bodies as values, in both forms.

Revisions 2026-04 and 2026-08 send a form of their own, which they spell alike but for the
result: ``{event, task: {id}, request, result, errors}``. If such an event does not contain all of
its task, nothing is guessed: the task is read.

Revision 2026-10 sends ``{id, type, timestamp, data}``, and `data` is the task as a read returns it.
The body itself shows its form, so that a ledger set up under one revision understands a server that
has changed to the other.

The receiver reads only an event's head; the engine reads the rest when it processes the event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeGuard

from mynth_dagster.models.request import FOLLOW_UP_TASKS
from mynth_dagster.models.task import IMAGE_TASK, Task, TaskEvent, TaskStatus
from mynth_dagster.wire.decode import decode_full_task, first, mapping, task_id_of, time_of

OUR_TASKS = (IMAGE_TASK, *FOLLOW_UP_TASKS)
"""The types of the tasks that we create; a further one is added here."""

ENDS = (TaskStatus.COMPLETED, TaskStatus.FAILED)


def events_of(*task_types: str) -> list[str]:
    """Return the names of the events that finish tasks of these types."""
    return [f"task.{task_type}.{end.value}" for task_type in task_types for end in ENDS]


FINAL_EVENTS: MappingProxyType[str, TaskStatus] = MappingProxyType(
    {name: TaskStatus(name.rpartition(".")[2]) for name in events_of(*OUR_TASKS)}
)
"""The events that finish one of our tasks; no other changes anything."""

NAME_MAX_CHARS = 100
EVENT_ID_MAX_CHARS = 200

_PRICED_EXTRAS = ("magic_prompt", "rating", "content_rating", "inputs")


@dataclass(frozen=True)
class EventHead:
    """The head of an event; only the newer form has an id of its own."""

    name: str
    task_id: str
    event_id: str | None = None


def read_head(body: Any) -> EventHead | None:
    """Read the event's name, its task and its own id; None if the body is no event."""
    if not isinstance(body, Mapping):
        return None
    is_older = "event" in body
    name = body.get("event" if is_older else "type")
    task_id = task_id_of(mapping(body.get("task" if is_older else "data")).get("id"))
    if not _is_text(name, NAME_MAX_CHARS) or task_id is None:
        return None
    if is_older:
        return EventHead(name, task_id)
    event_id, resolved_at = body.get("id"), body.get("timestamp")
    if not _is_text(event_id, EVENT_ID_MAX_CHARS) or not isinstance(resolved_at, str):
        return None
    return EventHead(name, task_id, event_id)


def decode_event(body: Any, *, default_format: str | None, at_us: int) -> TaskEvent | None:
    """
    Read an event; None if it does not finish a task of ours.

    Args:
        body: The parsed body, in either form.
        default_format: Of images, if the request has none; the newer form contains it.
        at_us: Stands for the task's end, which the older form lacks; UTC microseconds.
    """
    head = read_head(body)
    if head is None or head.name not in FINAL_EVENTS:
        return None
    if head.event_id is not None:
        return _decode_newer(head, body)
    return _decode_older(head, body, default_format, at_us)


def _decode_newer(head: EventHead, body: Mapping[str, Any]) -> TaskEvent:
    """Read the contained task; one that does not fit the event's name has to be read instead."""
    data, status = body["data"], FINAL_EVENTS[head.name]
    named = {"type": _task_type(head.name), "status": status.value}
    task = decode_full_task(
        head.name, {"data": {**data, **named}}, revision="event", default_format=None
    )
    agrees = all(data.get(key) == value for key, value in named.items())
    is_dated = time_of(first(data, "updated_at", "updatedAt")) is not None
    is_whole = agrees and is_dated and _is_whole(task)
    return TaskEvent(head.task_id, status, task.metadata, task if is_whole else None)


def _decode_older(
    head: EventHead, body: Mapping[str, Any], default_format: str | None, at_us: int
) -> TaskEvent:
    status = FINAL_EVENTS[head.name]
    task = decode_full_task(
        head.name, _as_task(head, body), revision="event", default_format=default_format
    )
    task = replace(task, created_at_us=at_us, updated_at_us=at_us)
    if task.images and task.cost_units is None:
        task = replace(task, cost_units=_sum_of_costs(body, task))
    return TaskEvent(head.task_id, status, task.metadata, task if _is_whole(task) else None)


def _as_task(head: EventHead, body: Mapping[str, Any]) -> dict[str, Any]:
    """Bring an event of the older form into the shape of a full task."""
    return {
        "type": _task_type(head.name),
        "id": head.task_id,
        "status": FINAL_EVENTS[head.name].value,
        "request": body.get("request"),
        "result": body.get("result"),
        "errors": body.get("errors"),
        "cost": body["task"].get("cost"),
    }


def _task_type(name: str) -> str:
    return name.removeprefix("task.").rpartition(".")[0]


def _is_whole(task: Task) -> bool:
    """Whether the event is complete: a read may add a failure's reason or a result's price."""
    if task.status is TaskStatus.FAILED:
        return bool(task.faults)
    return task.n_delivered + len(task.images) > 0 and task.cost_units is not None


def _sum_of_costs(body: Mapping[str, Any], task: Task) -> int | None:
    """Add up the images' costs; None if something else may have been charged as well."""
    request = body.get("request")
    if not isinstance(request, Mapping) or _has_priced_extras(request):
        return None
    costs = [image.cost_units for image in task.images if image.delivered]
    return None if None in costs else sum(cost or 0 for cost in costs)


def _has_priced_extras(request: Mapping[str, Any]) -> bool:
    prompt = request.get("prompt")
    is_enhanced = isinstance(prompt, Mapping) and prompt.get("enhance")
    return bool(is_enhanced) or any(request.get(name) for name in _PRICED_EXTRAS)


def _is_text(value: object, max_chars: int) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= max_chars and bool(value.strip())
