"""What the writers of all revisions share: leaving out what is not asked, and our own tag."""

from __future__ import annotations

import json
from typing import Any

from mynth_dagster.limits import INTENT_TAG_KEY


def with_present(**fields: Any) -> dict[str, Any]:
    """The fields that are not None, in the order given."""
    return {name: value for name, value in fields.items() if value is not None}


def metadata_with_tag(metadata_json: str | None, tag: str | None) -> dict[str, Any] | None:
    """The user's metadata with our tag beside it; None where there is neither."""
    metadata: dict[str, Any] = json.loads(metadata_json) if metadata_json else {}
    if tag is not None:
        metadata[INTENT_TAG_KEY] = tag
    return metadata or None
