"""Routes that read tasks: status, result, full task, list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.calls import Answer, answer_json
from mynth_dagster.simulator.validation import NOT_FOUND, Refusal, invalid

if TYPE_CHECKING:
    from mynth_dagster.simulator.accounts import Key
    from mynth_dagster.simulator.calls import Call
    from mynth_dagster.simulator.tasks import Task


def status(call: Call) -> Answer:
    """``GET /tasks/:id/status``; may lag behind the task, never run ahead of it."""
    task = _find(call, call.require_key_or_token(call.route.param))
    lag_s = call.service.quirks.status_lag_s or 0.0
    lags = lag_s > 0 and call.service.clock.elapsed_s() < task.finished_s + lag_s
    return answer_json(call.service.revision.answers.status("pending" if lags else task.status))


def result(call: Call) -> Answer:
    """``GET /tasks/:id/result``, in 2026-04 ``/results``."""
    task = _find(call, call.require_key_or_token(call.route.param))
    service = call.service
    if task.type != "image.generate" and not service.quirks.result_of_all_types:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    return answer_json(service.revision.answers.result(task, call.view))


def detail(call: Call) -> Answer:
    """``GET /tasks/:id``: the whole task, for a key of its account."""
    task = _find(call, call.require_key())
    return answer_json(call.service.revision.answers.detail(task, call.view))


def list_tasks(call: Call) -> Answer:
    """``GET /tasks``: the tasks of this key, newest first."""
    key = call.require_key()
    task_page = call.service.revision.answers.task_page
    limit = _read_limit(call)
    after = call.query("after")
    before = None
    if after is not None:
        before = call.service.world.find(after)
        if before is None or before.key is not key:
            if call.service.quirks.unknown_after == "empty":
                return answer_json(task_page([]))
            raise invalid("after", "is not a task of this key")
    return answer_json(task_page(call.service.world.page(key, limit=limit, before=before)))


def _read_limit(call: Call) -> int:
    text = call.query("limit")
    if text is None:
        return defaults.LIST_PAGE_DEFAULT
    largest = call.service.revision.LIMITS.list_page_max
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= largest:
        raise invalid("limit", f"must be 1 to {largest}")
    return int(text)


def _find(call: Call, key: Key | None) -> Task:
    task = call.service.world.find(call.route.param)
    if task is None or (key is not None and key.user_id != task.key.user_id):
        raise Refusal(NOT_FOUND, defaults.NO_TASK_TEXT)
    return task
