"""The completion sensor with webhooks: it takes what was told, and says when nothing is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from mynth_dagster.clock import US_PER_S, SystemClock
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import EventEnd, EventOutcome, WebhookEvent
from mynth_dagster.webhook.app import admit
from tests.engine.post import SETTINGS, events, headers_of
from tests.plugin.conftest import Project

FIRST, LAST = "2026-11-20|000", "2026-11-20|001"
Work = Callable[[Ledger], Coroutine[Any, Any, None]]


def in_ledger(project: Project, work: Work) -> None:
    """Do something with the project's ledger."""
    ledger = Ledger.open(f"sqlite:///{project.folder / 'data' / 'mynth-ledger.db'}")
    try:
        asyncio.run(work(ledger))
    finally:
        ledger.close()


def n_reads(project: Project) -> int:
    """Requests that ask about tasks."""
    requests = project.simulator.log()["requests"]
    return sum(n for route, n in requests.items() if route.startswith("GET /tasks"))


def test_a_tick_takes_what_was_announced_and_asks_for_collection_without_asking_mynth(project):
    """All partitions are idle by their events alone."""
    project.execute("submit", FIRST, LAST)
    project.simulator.complete()
    bodies = events(project.simulator)
    before = n_reads(project)

    async def deliver(ledger: Ledger) -> None:
        for body in bodies:
            now_us = SystemClock().now_us()
            headers = headers_of(body, now_us // US_PER_S)
            event = admit(SETTINGS, is_signed=True, headers=headers, body=body, now_us=now_us)
            assert event is not None
            await ledger.events.receive(event)

    in_ledger(project, deliver)
    tick = project.tick()

    assert len(bodies) == 12
    assert tick.run_requests
    assert n_reads(project) == before


def test_a_tick_says_when_deliveries_have_stopped(project):
    """In its skip reason and in its log, every time until they come back."""
    now_us = SystemClock().now_us()

    async def go_silent(ledger: Ledger) -> None:
        event = WebhookEvent("e1", True, "x", "tsk_1", "{}", now_us - 3600 * US_PER_S)
        await ledger.events.receive(event)
        end = EventEnd("e1", EventOutcome.READ, now_us, "shots")
        await ledger.events.finish(end)
        noted = {"at_us": now_us, "n_tasks": 9}
        await ledger.set_meta("webhooks:unannounced:shots", json.dumps(noted))

    (project.folder / "data").mkdir()
    in_ledger(project, go_silent)
    tick = project.tick()

    assert "webhooks have stopped coming" in tick.skip_message
    assert "9 tasks finished since" in tick.skip_message
