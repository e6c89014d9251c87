"""Batches for tests: each setting by its name alone, wherever it belongs."""

from __future__ import annotations

from typing import Any

from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import (
    Checks,
    Delivery,
    ImageRequest,
    Prompts,
    Settings,
    Spending,
)

_PARTS: dict[str, type[Settings]] = {
    "prompts": Prompts,
    "request": ImageRequest,
    "spending": Spending,
    "delivery": Delivery,
    "checks": Checks,
}


def grouped(fields: dict[str, Any]) -> dict[str, Any]:
    """Put `models`, `retries` and the like into the settings that have them; keep all others."""
    left, parts = dict(fields), {name: dict[str, Any]() for name in _PARTS}
    for name, part in _PARTS.items():
        for field in part.model_fields:
            if field in left:
                parts[name][field] = left.pop(field)
    return {**left, **{name: _PARTS[name](**own) for name, own in parts.items() if own}}


def make_batch(name: str = "b", **fields: Any) -> Batch:
    """A batch with these settings."""
    return Batch(name, **grouped(fields))
