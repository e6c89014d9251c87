"""Routes that make tasks, and the estimate that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mynth_dagster.simulator.answers import Answer, answer_json
from mynth_dagster.simulator.tokens import issue_token

if TYPE_CHECKING:
    from mynth_dagster.simulator.calls import Call
    from mynth_dagster.simulator.orders import Order


def generate(call: Call) -> Answer:
    """``POST /image/generate``: a task, and a token for it unless declined."""
    key = call.require_key()
    service = call.service
    order = _read_order(call)
    service.outbox.base_url = call.base_url
    task = service.world.create(order, key, call.body)
    token = None
    if order.wants_token:
        lifetime_s = service.choices.token_lifetime_s or 0
        token = issue_token(task.task_id, task.created_us, lifetime_s)
    return answer_json(service.revision.answers.created(task, token), 201)


def estimate(call: Call) -> Answer:
    """``POST /image/generate/estimate``: the price of the same body; nothing is made."""
    call.require_key()
    revision = call.service.revision
    units, kind = call.service.world.quote(_read_order(call))
    return answer_json(revision.answers.wrapped(revision.account.estimate(units, kind)))


def inspect(call: Call) -> Answer:
    """
    ``POST /image/rate``, ``/image/alt``, ``/image/review``: a task that looks at an image.

    Revision 2026-04 knows ratings only, and answers them at once.
    """
    key = call.require_key()
    service = call.service
    inspection = service.revision.requests.read_inspection(
        call.route.name, call.json_object(), strict=service.scenario.strict_fields
    )
    task = service.world.inspect(inspection, key, call.body)
    is_synchronous = service.revision.REVISION == "2026-04"
    if is_synchronous:
        service.world.settle([task.task_id])
    payload = service.revision.answers.created(task, None)
    return answer_json(payload, 200 if is_synchronous else 201)


def _read_order(call: Call) -> Order:
    service = call.service
    return service.revision.requests.read_generate(
        call.json_object(), service.choices, strict=service.scenario.strict_fields
    )
