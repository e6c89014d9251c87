"""Deliveries of revision 2026-10, byte by byte: each file says how it is to be judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mynth_dagster.clock import US_PER_S, ManualClock
from mynth_dagster.wire.events import FINAL_EVENTS
from tests.webhook.conftest import TOKEN

FILES = sorted((Path(__file__).parent / "deliveries").glob("*.json"))
N_FILES = 20


def delivery(path: Path) -> dict[str, Any]:
    """A delivery with its verdict."""
    return json.loads(path.read_text("utf-8"))


def test_no_delivery_is_missing():
    """A folder that is empty would prove nothing."""
    assert len(FILES) == N_FILES
    assert all(delivery(path)["source"] for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_delivery_is_judged_as_its_file_says(post, path):
    """2xx or 4xx; what finishes a task of ours is kept under the event's own id."""
    given = delivery(path)
    world = post(secrets=given["secrets"])
    world.clock = ManualClock(given["now_s"] * US_PER_S)
    is_signed = given["mode"] == "signed"
    sent = {
        "path": "/" if is_signed else f"/custom/{TOKEN}",
        "content": given["raw"].encode("utf-8"),
        "headers": list(given["headers"].items()),
    }
    verdict = given["verdict"]
    (first,) = world.send(sent)
    (again,) = world.send(sent)

    assert first.status_code // 100 == again.status_code // 100 == verdict["status"]
    body = json.loads(given["raw"]) if verdict["status"] == 2 else {}
    if body.get("type") not in FINAL_EVENTS:
        assert world.rows() == []
        return
    event_id = verdict.get("dedupe_on", body["id"])
    assert event_id == given["headers"]["webhook-id"]
    kept = "SELECT event_id, event, task_id, body, signed_at_us FROM webhook_events"
    signed_at_us = int(given["headers"]["webhook-timestamp"]) * US_PER_S
    assert world.rows(kept) == [
        (
            f"{'signed' if is_signed else 'unverified'}:{event_id}",
            verdict.get("type", body["type"]),
            verdict.get("task_id", body["data"]["id"]),
            given["raw"] if is_signed else None,
            signed_at_us if is_signed else None,
        )
    ]
