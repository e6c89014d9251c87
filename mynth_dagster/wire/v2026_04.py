"""
Revision 2026-04: the vendor's seed pages.

No envelope, the prompt may be an object, results at `/results`, no list, no catalogue,
no estimate, no account look-ups.
"""

from __future__ import annotations

from typing import Any

from mynth_dagster.errors import UnsupportedFeatureError
from mynth_dagster.limits import AUTO_SIZE_BY_MODEL, AUTO_SIZE_BY_MYNTH, LIMITS_BY_REVISION
from mynth_dagster.models.request import FollowUpRequest, InputImage, Rating, RowRequest
from mynth_dagster.models.task import Task, TaskEvent
from mynth_dagster.wire import decode, events
from mynth_dagster.wire.revision import metadata_with_tag, with_present

REVISION = "2026-04"
LIMITS = LIMITS_BY_REVISION[REVISION]
HAS_TASK_LIST = False
HAS_ESTIMATE = False
HAS_CATALOG = False
HAS_ACCOUNT = False
HAS_DESTINATIONS = False
HAS_FOLLOW_UPS = False
RESULT_WORD = "results"
WEBHOOK_PATH = "/webhook"
OWN_FIELDS = frozenset({"access", "webhook"})

DEFAULT_FORMAT = "webp"
DEFAULT_INPUT_ROLE = "reference"
_SIZE_OBJECTS: dict[str, dict[str, str]] = {
    AUTO_SIZE_BY_MYNTH: {"type": "auto", "prefer": "mynth"},
    AUTO_SIZE_BY_MODEL: {"type": "auto", "prefer": "native"},
}
_ENHANCE = {"magic": "prefer_magic", "native": "prefer_native"}


def encode_request(request: RowRequest, *, tag: str | None) -> dict[str, Any]:
    """The body of `POST /image/generate`."""
    routing = request.routing
    output = with_present(format=request.output_format, quality=request.output_quality)
    return with_present(
        prompt=_prompt(request),
        model=request.model,
        size=_SIZE_OBJECTS.get(request.size or "", request.size),
        count=request.count,
        output=output or None,
        inputs=[_input(image) for image in request.inputs] or None,
        content_rating=None if request.rating is None else _rating(request.rating),
        webhook=_webhook(request) or None,
        access=None if routing.with_token else {"pat": {"enabled": False}},
        metadata=metadata_with_tag(routing.metadata_json, tag),
    )


def encode_follow_up(follow_up: FollowUpRequest) -> dict[str, Any]:
    """Ratings of this revision are no tasks, and the rest does not exist."""
    table = follow_up.settings.kind.table
    raise UnsupportedFeatureError(table, f"revision {REVISION} has no follow-up tasks")


def decode_task(operation: str, body: Any) -> Task:
    """`GET /tasks/:id`."""
    return decode.decode_full_task(
        operation, body, revision=REVISION, default_format=DEFAULT_FORMAT
    )


def decode_event(body: Any, *, at_us: int) -> TaskEvent | None:
    """A webhook's body."""
    return events.decode_event(body, default_format=DEFAULT_FORMAT, at_us=at_us)


def _prompt(request: RowRequest) -> str | dict[str, Any]:
    if request.negative_prompt is None and request.enhance is None:
        return request.prompt
    enhance = _ENHANCE[request.enhance] if request.enhance else False
    return with_present(positive=request.prompt, negative=request.negative_prompt, enhance=enhance)


def _input(image: InputImage) -> dict[str, Any]:
    source = {"type": "url", "url": image.url}
    return {"type": "image", "role": image.role or DEFAULT_INPUT_ROLE, "source": source}


def _rating(rating: Rating) -> dict[str, Any]:
    levels = [{"value": level.value, "description": level.description} for level in rating.levels]
    return with_present(enabled=True, levels=levels or None)


def _webhook(request: RowRequest) -> dict[str, Any]:
    custom = [{"url": url} for url in request.routing.webhook_urls]
    muted = False if request.routing.mute_registered_webhooks else None
    return with_present(enabled=muted, custom=custom or None)
