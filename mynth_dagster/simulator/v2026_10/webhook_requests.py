"""Bodies about registered webhooks in 2026-10."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.simulator import validation
from mynth_dagster.simulator.tasks import WebhookWish
from mynth_dagster.simulator.validation import REQUIRED, Form, Path

TASK_TYPES = (
    *("image.generate", "image.rate", "image.alt", "image.review"),
    *("image.remove_background", "image.upscale", "video.generate"),
)
ALL = "all"
EVENTS = (
    *(ALL, "task.completed", "task.failed"),
    *(f"task.{kind}.{end}" for kind in TASK_TYPES for end in ("completed", "failed")),
)


def read_webhook(body: Mapping[str, Any]) -> WebhookWish:
    """
    The registered webhook in a body of ``POST /webhooks`` or ``PUT /webhooks/:id``.

    Raises:
        Refusal: With an issue for each field that is wrong.
    """
    form = Form(body)
    form.close(("url", "events", "enabled", "api_key_ids", "include_session_tasks"))
    if "events" not in form:
        form.complain(("events",), REQUIRED)

    def read_event(steps: Path, event: object) -> str:
        return form.check_at(steps, event, _as_event, "")

    def read_key_id(steps: Path, key_id: object) -> str:
        return form.check_at(steps, key_id, validation.as_text, "")

    events = form.take_each("events", read_event, fewest=1)
    if ALL in events and len(events) > 1:
        form.complain(("events",), "must be all alone, or names without it")
    key_ids = None
    if body.get("api_key_ids") is not None:
        key_ids = tuple(form.take_each("api_key_ids", read_key_id))
    wish = WebhookWish(
        enabled=form.take("enabled", validation.as_flag, fallback=True),
        url=form.take("url", validation.as_web_url, "", required=True),
        events=events,
        api_key_ids=key_ids,
        include_session_tasks=form.take(
            "include_session_tasks", validation.as_flag, fallback=False
        ),
    )
    form.finish()
    return wish


def _as_event(value: object, at: str) -> str:
    return validation.as_choice(value, at, EVENTS)
