"""
Revision 2026-08: the state of the official SDK 0.0.36.

Responses are wrapped in `data`, the prompt is a string, errors are flat with upper-case codes,
results at `/result`; list, catalogue, estimate and account look-ups exist.
"""

from __future__ import annotations

from typing import Any

from mynth_dagster.errors import UnsupportedFeatureError
from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.models.request import FollowUpRequest, RowRequest
from mynth_dagster.models.task import Task, TaskEvent
from mynth_dagster.wire import decode, events
from mynth_dagster.wire.revision import (
    follow_up_body,
    input_image,
    metadata_with_tag,
    rating_levels,
    with_present,
)

REVISION = "2026-08"
LIMITS = LIMITS_BY_REVISION[REVISION]
HAS_TASK_LIST = True
HAS_ESTIMATE = True
HAS_CATALOG = True
HAS_ACCOUNT = True
HAS_DESTINATIONS = False
HAS_FOLLOW_UPS = True
RESULT_WORD = "result"
WEBHOOK_PATH = "/webhook"
OWN_FIELDS = frozenset({"access", "webhook"})

DEFAULT_FORMAT = "webp"
DEFAULT_QUALITY = 80


def encode_request(request: RowRequest, *, tag: str | None) -> dict[str, Any]:
    """The body of `POST /image/generate`."""
    routing = request.routing
    return with_present(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        magic_prompt=_magic(request.enhance),
        model=request.model,
        size=request.size,
        count=request.count,
        output=_output(request),
        inputs=[input_image(image) for image in request.inputs] or None,
        rating=None if request.rating is None else rating_levels(request.rating),
        webhook=_webhook(request) or None,
        access=None if routing.with_token else {"pat": {"enabled": False}},
        metadata=metadata_with_tag(routing.metadata_json, tag),
        destination=routing.destination,
    )


def encode_follow_up(follow_up: FollowUpRequest) -> dict[str, Any]:
    """The body of `POST /image/rate`, `/image/alt` or `/image/review`."""
    return follow_up_body(follow_up)


def decode_task(operation: str, body: Any) -> Task:
    """`GET /tasks/:id`."""
    return decode.decode_full_task(
        operation, body, revision=REVISION, default_format=DEFAULT_FORMAT
    )


def decode_event(body: Any, *, at_us: int) -> TaskEvent | None:
    """A webhook's body."""
    return events.decode_event(body, default_format=DEFAULT_FORMAT, at_us=at_us)


def _magic(enhance: str | None) -> bool | None:
    if enhance == "native":
        raise UnsupportedFeatureError(
            "enhance", f"revision {REVISION} has no provider-side enhancement: use 'magic' or none"
        )
    return True if enhance else None


def _output(request: RowRequest) -> dict[str, Any] | None:
    """Both keys are required as soon as the object is there."""
    if request.output_format is None and request.output_quality is None:
        return None
    quality = DEFAULT_QUALITY if request.output_quality is None else request.output_quality
    return {"format": request.output_format or DEFAULT_FORMAT, "quality": quality}


def _webhook(request: RowRequest) -> dict[str, Any]:
    custom = [{"url": url} for url in request.routing.webhook_urls]
    muted = False if request.routing.mute_registered_webhooks else None
    return with_present(dashboard=muted, custom=custom or None)
