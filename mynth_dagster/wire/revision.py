"""The interface that each revision's module provides, and detection of a server's revision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from mynth_dagster.limits import AUTO_MODEL, INTENT_TAG_KEY, RevisionLimits
from mynth_dagster.models.request import FollowUpRequest, InputImage, Rating, RowRequest
from mynth_dagster.models.task import Task, TaskEvent


class RevisionProfile(Protocol):
    """
    One API revision: how it spells a request, and what it offers.

    `HAS_TASK_LIST`, `HAS_ESTIMATE`, `HAS_CATALOG` and `HAS_ACCOUNT` name free look-ups that
    only some revisions have, `HAS_DESTINATIONS` the one for the user's own storage;
    `HAS_FOLLOW_UPS`: images can be rated, described and reviewed, one
    paid task each. `RESULT_WORD` ends the path of a result, `WEBHOOK_PATH` is where
    webhooks are managed. `OWN_FIELDS` are the request fields that we add without being
    asked: a refusal that names one is our mistake, never the row's.
    """

    @property
    def REVISION(self) -> str: ...  # noqa: N802 - a module's constant
    @property
    def LIMITS(self) -> RevisionLimits: ...  # noqa: N802 - a module's constant
    @property
    def HAS_TASK_LIST(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_ESTIMATE(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_CATALOG(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_ACCOUNT(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_DESTINATIONS(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_FOLLOW_UPS(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def RESULT_WORD(self) -> str: ...  # noqa: N802 - a module's constant
    @property
    def WEBHOOK_PATH(self) -> str: ...  # noqa: N802 - a module's constant
    @property
    def OWN_FIELDS(self) -> frozenset[str]: ...  # noqa: N802 - a module's constant

    def encode_request(self, request: RowRequest, *, tag: str | None) -> dict[str, Any]:
        """
        The body of `POST /image/generate`.

        Raises:
            UnsupportedFeatureError: The revision cannot express something that is asked.
        """
        ...

    def encode_follow_up(self, follow_up: FollowUpRequest) -> dict[str, Any]:
        """
        The body of `POST /image/rate`, `/image/alt` or `/image/review`.

        Raises:
            UnsupportedFeatureError: The revision has no such task.
        """
        ...

    def decode_task(self, operation: str, body: Any) -> Task:
        """
        A full task (`GET /tasks/:id`).

        Raises:
            UnexpectedPayloadError: Not a task.
        """
        ...

    def decode_event(self, body: Any, *, at_us: int) -> TaskEvent | None:
        """
        A webhook's parsed body; None where it does not finish an image task.

        ``at_us`` stands for the task's end, which events do not tell.
        """
        ...


# What the writers of several revisions share.
#
# Leaving out empty fields, our own tag, and the spelling that is the same since 2026-08.


def with_present(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None, in the order given."""
    return {name: value for name, value in fields.items() if value is not None}


def metadata_with_tag(metadata_json: str | None, tag: str | None) -> dict[str, Any] | None:
    """Add our tag to the user's metadata; None if there is neither."""
    metadata: dict[str, Any] = json.loads(metadata_json) if metadata_json else {}
    if tag is not None:
        metadata[INTENT_TAG_KEY] = tag
    return metadata or None


def input_image(image: InputImage) -> str | dict[str, Any]:
    """Encode an input image since 2026-08: its URL, or an object if it has a role."""
    if image.role is None:
        return image.url
    return {"type": "image", "as": image.role, "source": {"type": "url", "url": image.url}}


def rating_levels(rating: Rating) -> bool | dict[str, Any]:
    """Encode a content rating since 2026-08: true, or the caller's own levels."""
    if not rating.levels:
        return True
    levels = [{"value": level.value, "description": level.description} for level in rating.levels]
    return {"mode": "custom", "levels": levels}


def follow_up_body(follow_up: FollowUpRequest) -> dict[str, Any]:
    """The body of `POST /image/rate`, `/image/alt` or `/image/review` since 2026-08."""
    settings = follow_up.settings
    body = with_present(url=follow_up.url, effort=settings.effort)
    rating = rating_levels(Rating(settings.levels))
    return {**body, **rating} if isinstance(rating, dict) else body


# Detection of the revision that a server speaks, by the spelling of free responses.
#
# The revisions carry no version anywhere, and each spells its responses in its own way. The public
# catalogue (`GET /models`) distinguishes two of them; if it is missing or unreadable, an estimate
# (`POST /image/generate/estimate`) does, with the key.


_OLD_SPELLING = frozenset({"displayName", "perImage", "perInput"})
_NEW_SPELLING = frozenset({"display_name", "per_image", "per_input", "per_second"})
_ABSENT = frozenset({401, 404, 405})

ESTIMATE_BODY = {"prompt": "a", "model": AUTO_MODEL}
"""A request for an estimate that every revision that has estimates takes."""


def revision_by_catalog(status: int, body: Any) -> str | None:
    """
    Detect the revision by the response to `GET /models` without a key; None if it proves none.

    The keys of all entries have to agree in their spelling.
    """
    entries = body.get("data") if isinstance(body, Mapping) else None
    if status != 200 or not isinstance(entries, list) or not entries:
        return None
    keys = {key for entry in entries for key in _keys(entry)}
    old, new = bool(keys & _OLD_SPELLING), bool(keys & _NEW_SPELLING)
    if old == new:
        return None
    return "2026-10" if new else "2026-08"


def may_be_without_catalog(status: int) -> bool:
    """Whether the response to `GET /models` is that of a server of the oldest revision."""
    return status in _ABSENT


def revision_by_estimate(status: int, body: Any) -> str | None:
    """Detect the revision by the response to an estimate; None if it proves none."""
    payload = body.get("data") if isinstance(body, Mapping) else None
    if status != 200 or not isinstance(payload, Mapping):
        return None
    if "estimated_cost" in payload:
        return "2026-10"
    return "2026-08" if "estimatedCost" in payload else None


def _keys(entry: Any) -> set[str]:
    if not isinstance(entry, Mapping):
        return set()
    pricing = entry.get("pricing")
    return set(entry) | (set(pricing) if isinstance(pricing, Mapping) else set())
