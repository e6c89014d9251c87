"""
What the writers of several revisions share.

Leaving out what is not asked, our own tag, and the spelling that is the same since 2026-08.
"""

from __future__ import annotations

import json
from typing import Any

from mynth_dagster.limits import INTENT_TAG_KEY
from mynth_dagster.models.request import InputImage, Inspection, Rating


def with_present(**fields: Any) -> dict[str, Any]:
    """The fields that are not None, in the order given."""
    return {name: value for name, value in fields.items() if value is not None}


def metadata_with_tag(metadata_json: str | None, tag: str | None) -> dict[str, Any] | None:
    """The user's metadata with our tag beside it; None where there is neither."""
    metadata: dict[str, Any] = json.loads(metadata_json) if metadata_json else {}
    if tag is not None:
        metadata[INTENT_TAG_KEY] = tag
    return metadata or None


def input_image(image: InputImage) -> str | dict[str, Any]:
    """An input image since 2026-08: its URL, or an object where it has a role."""
    if image.role is None:
        return image.url
    return {"type": "image", "as": image.role, "source": {"type": "url", "url": image.url}}


def rating_levels(rating: Rating) -> bool | dict[str, Any]:
    """A content rating since 2026-08: true, or the caller's own levels."""
    if not rating.levels:
        return True
    levels = [{"value": level.value, "description": level.description} for level in rating.levels]
    return {"mode": "custom", "levels": levels}


def inspection_body(inspection: Inspection) -> dict[str, Any]:
    """The body of `POST /image/rate`, `/image/alt` or `/image/review` since 2026-08."""
    settings = inspection.settings
    body = with_present(url=inspection.url, effort=settings.effort)
    rating = rating_levels(Rating(settings.levels))
    return {**body, **rating} if isinstance(rating, dict) else body
