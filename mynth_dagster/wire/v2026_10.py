"""
Revision 2026-10: the API that is live since October 2026 (official SDK 0.0.50).

Every name is in snake case, answers are wrapped in `data`, errors are nested with lower-case
codes. The server refuses unknown fields at any depth, so only fields with a value are written.
"""

from __future__ import annotations

from typing import Any

from mynth_dagster.errors import UnsupportedFeatureError
from mynth_dagster.limits import AUTO_MODEL, LIMITS_BY_REVISION, SIZE_4K_SUFFIX
from mynth_dagster.models.request import FollowUpRequest, RowRequest, is_data_uri
from mynth_dagster.models.task import Task, TaskEvent
from mynth_dagster.wire import decode, events
from mynth_dagster.wire.revision import (
    follow_up_body,
    input_image,
    metadata_with_tag,
    rating_levels,
    with_present,
)

REVISION = "2026-10"
LIMITS = LIMITS_BY_REVISION[REVISION]
HAS_TASK_LIST = True
HAS_ESTIMATE = True
HAS_CATALOG = True
HAS_ACCOUNT = True
HAS_FOLLOW_UPS = True
HAS_DESTINATIONS = True
RESULT_WORD = "result"
WEBHOOK_PATH = "/webhooks"
OWN_FIELDS = frozenset({"webhook", "generate_public_access_token"})


def encode_request(request: RowRequest, *, tag: str | None) -> dict[str, Any]:
    """The body of `POST /image/generate`."""
    _require_expressible(request)
    routing = request.routing
    return with_present(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        magic_prompt=True if request.enhance else None,
        model=request.model,
        size=request.size,
        count=request.count,
        output=None if request.output_format is None else {"format": request.output_format},
        inputs=[input_image(image) for image in request.inputs] or None,
        rating=None if request.rating is None else rating_levels(request.rating),
        webhook=_webhook(request) or None,
        generate_public_access_token=True if routing.with_token else None,
        metadata=metadata_with_tag(routing.metadata_json, tag),
        destination=routing.destination,
    )


def encode_follow_up(follow_up: FollowUpRequest) -> dict[str, Any]:
    """The body of `POST /image/rate`, `/image/alt` or `/image/review`."""
    return follow_up_body(follow_up)


def decode_task(operation: str, body: Any) -> Task:
    """`GET /tasks/:id`."""
    return decode.decode_full_task(operation, body, revision=REVISION, default_format=None)


def decode_event(body: Any, *, at_us: int) -> TaskEvent | None:
    """A webhook's body."""
    return events.decode_event(body, default_format=None, at_us=at_us)


def _require_expressible(request: RowRequest) -> None:
    """Refuse what the server would refuse, or would charge for and not do."""
    if request.enhance == "native":
        raise _unsupported("enhance", "no provider-side enhancement: use 'magic' or none")
    if request.output_quality is not None:
        raise _unsupported("output_quality", "no output quality: leave it out")
    if request.model == AUTO_MODEL and (request.size or "").endswith(SIZE_4K_SUFFIX):
        raise _unsupported("size", f"no 4k sizes of model {AUTO_MODEL!r}: name a model")
    for image in request.inputs:
        if image.role is not None and image.role not in LIMITS.input_roles:
            known = ", ".join(LIMITS.input_roles)
            raise _unsupported("inputs", f"no role {image.role!r}: use {known}")
        if is_data_uri(image.url):
            raise _unsupported("inputs", "no data URIs: give the file, which is then uploaded")


def _unsupported(field: str, lacks: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(field, f"revision {REVISION} has {lacks}")


def _webhook(request: RowRequest) -> dict[str, Any]:
    custom = [{"url": url} for url in request.routing.webhook_urls]
    muted = False if request.routing.mute_registered_webhooks else None
    return with_present(registered=muted, custom=custom or None)
