"""Routes that make tasks, and the estimate that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.accounts import issue_token
from mynth_dagster.simulator.calls import Answer, answer_json
from mynth_dagster.simulator.validation import TOKEN_FAILED, Refusal, invalid

if TYPE_CHECKING:
    from mynth_dagster.simulator.accounts import Key
    from mynth_dagster.simulator.calls import Call
    from mynth_dagster.simulator.tasks import Order, Task


def generate(call: Call) -> Answer:
    """``POST /image/generate``: a task, and a token for it if wanted."""
    key = call.require_key("generate")
    order = _read_order(call, key)
    call.service.outbox.base_url = call.base_url
    task = call.service.world.create(order, key, call.body)
    return _tell(call, task, wants_token=order.wants_token)


def estimate(call: Call) -> Answer:
    """``POST /image/generate/estimate``: the price of the same body; nothing is made."""
    key = call.require_key("generate")
    revision = call.service.revision
    units, kind = call.service.world.quote(_read_order(call, key))
    return answer_json(revision.answers.wrapped(revision.account.estimate(units, kind)))


def inspect(call: Call) -> Answer:
    """
    ``POST /image/rate``, ``/image/alt``, ``/image/review``: a task that looks at an image.

    Revision 2026-04 knows ratings only, and answers them at once.
    """
    key = call.require_key("generate")
    service = call.service
    inspection = service.revision.requests.read_inspection(
        call.route.name, call.json_object(), strict=service.scenario.strict_fields
    )
    task = service.world.inspect(inspection, key, call.body)
    is_synchronous = service.revision.REVISION == "2026-04"
    if is_synchronous:
        service.world.complete([task.task_id])
    payload = service.revision.answers.created(task, None)
    return answer_json(payload, 200 if is_synchronous else 201)


def rework(call: Call) -> Answer:
    """``POST /image/upscale``, ``/image/remove-background``: one image made of another."""
    key = call.require_key("generate")
    service = call.service
    asked = service.revision.requests.read_rework(call.route.name, call.json_object())
    _check_destination(call, key, asked.destination)
    asked = replace(asked, source_pixels=service.pixels_of(asked.url))
    service.outbox.base_url = call.base_url
    task = service.world.rework(asked, key, call.body)
    return _tell(call, task, wants_token=asked.wants_token)


def _tell(call: Call, task: Task, *, wants_token: bool) -> Answer:
    quirks = call.service.quirks
    token = None
    if wants_token and not call.token_fails:
        token = issue_token(task.task_id, task.created_us, quirks.token_lifetime_s or 0)
    elif wants_token and quirks.token_failure != "silent":  # noqa: S105 - a word
        extra = {"task_id": task.task_id}
        raise Refusal(TOKEN_FAILED, defaults.TOKEN_FAILED_TEXT, extra=extra)
    return answer_json(call.service.revision.answers.created(task, token), 201)


def _read_order(call: Call, key: Key) -> Order:
    service = call.service
    order = service.revision.requests.read_generate(
        call.json_object(), service.quirks, strict=service.scenario.strict_fields
    )
    _check_destination(call, key, order.destination)
    return order


def _check_destination(call: Call, key: Key, name: str | None) -> None:
    service = call.service
    if name is None or not service.revision.REFUSES_UNKNOWN_DESTINATIONS:
        return
    if not service.destinations.owns(key.user_id, name):
        raise invalid("destination", defaults.NO_DESTINATION_TEXT)
