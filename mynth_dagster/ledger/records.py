"""Rows of the ledger as values, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mynth_dagster.models.intent import Intent, RowKey
from mynth_dagster.models.task import Fault, ImageOutcome, Task, TaskStatus
from mynth_dagster.models.transitions import IntentState

_PLAIN = tuple(
    field.name for field in fields(Intent) if field.name not in ("row", "state", "remote_status")
)

INTENT_COLUMNS = (*_PLAIN, "batch", "window", "request_key", "state", "remote_status")
"""The columns of `schema.intents` that an intent fills."""


def intent_to_row(intent: Intent) -> dict[str, Any]:
    """An intent as a row of `INTENT_COLUMNS`."""
    row = {name: getattr(intent, name) for name in _PLAIN}
    row["batch"] = intent.row.batch
    row["window"] = intent.row.window
    row["request_key"] = intent.row.request_key
    row["state"] = intent.state.value
    row["remote_status"] = intent.remote_status.value if intent.remote_status else None
    return row


def intent_from_row(row: Mapping[Any, Any]) -> Intent:
    """One row of `schema.intents`."""
    status = row["remote_status"]
    return Intent(
        row=RowKey(row["batch"], row["window"], row["request_key"]),
        state=IntentState(row["state"]),
        remote_status=TaskStatus(status) if status else None,
        **{name: row[name] for name in _PLAIN},
    )


def task_to_json(task: Task) -> str:
    """A finished task as stored in `schema.tasks.details`."""
    # Not `asdict`, which copies every value in depth: this is done for every task.
    stored = {
        **{name: cell for name, cell in vars(task).items() if name != "prompt_asked"},
        "faults": [vars(fault) for fault in task.faults],
        "images": [_stored(image) for image in task.images],
    }
    return json.dumps(stored, ensure_ascii=False, separators=(",", ":"))


def _stored(image: ImageOutcome) -> dict[str, Any]:
    return {**vars(image), "fault": vars(image.fault) if image.fault else None}


def task_from_json(text: str) -> Task:
    """The inverse of `task_to_json`."""
    stored = json.loads(text)
    stored["status"] = TaskStatus(stored["status"])
    stored["faults"] = tuple(Fault(**fault) for fault in stored["faults"])
    stored["images"] = tuple(_image(image) for image in stored["images"])
    return Task(**stored)


def _image(stored: dict[str, Any]) -> ImageOutcome:
    fault = stored.pop("fault")
    return ImageOutcome(**stored, fault=Fault(**fault) if fault else None)
