"""
What the simulator saw: the witness that tests judge by.

Requests are counted when they arrive, answers when they leave; tasks are in the log from the
moment they exist, whatever becomes of the answer that tells of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from mynth_dagster.simulator.defaults import format_cost, format_price
from mynth_dagster.simulator.deliveries import Outbox
from mynth_dagster.simulator.state import World
from mynth_dagster.simulator.tasks import Inspection, Order, Task

CUT = "cut"
"""Key in ``responses`` for connections closed instead of, or within, an answer."""

_ROUTES = {
    "image.generate": "POST /image/generate",
    "image.rate": "POST /image/rate",
    "image.alt": "POST /image/alt",
    "image.review": "POST /image/review",
    "image.upscale": "POST /image/upscale",
    "image.remove_background": "POST /image/remove-background",
}


class Connections:
    """TCP connections of clients; a reset of the scenario keeps those that are open."""

    def __init__(self) -> None:
        self.n_opened = 0
        self.n_open = 0
        self.n_peak = 0

    def opened(self) -> None:
        """Note that a client connected."""
        self.n_opened += 1
        self.n_open += 1
        self.n_peak = max(self.n_peak, self.n_open)

    def closed(self) -> None:
        """Note that a connection is gone."""
        self.n_open -= 1

    def restart(self) -> None:
        """Count anew from the connections that are open."""
        self.n_opened = self.n_peak = self.n_open


class Journal:
    """Counts of requests and answers since the last reset."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.responses: Counter[str] = Counter()
        self.n_in_flight = 0
        self.n_peak_in_flight = 0

    def arrived(self, route_name: str) -> None:
        """Note a request of the API."""
        self.requests[route_name] += 1
        self.n_in_flight += 1
        self.n_peak_in_flight = max(self.n_peak_in_flight, self.n_in_flight)

    def left(self) -> None:
        """Note that a request is done with, however it ended."""
        self.n_in_flight -= 1

    def restart(self) -> None:
        """Count anew; requests in flight stay in flight."""
        self.requests.clear()
        self.responses.clear()
        self.n_peak_in_flight = self.n_in_flight


def compose_log(
    world: World,
    journal: Journal,
    connections: Connections,
    outbox: Outbox,
    *,
    n_uploads: int,
    lists: bool,
) -> dict[str, Any]:
    """The whole log as plain JSON values; without its three lists if not ``lists``."""
    world.complete_due()
    log: dict[str, Any] = {
        "requests": dict(journal.requests),
        "responses": dict(journal.responses),
        "connections": {
            "opened": connections.n_opened,
            "open": connections.n_open,
            "peak_open": connections.n_peak,
        },
        "peak_in_flight": journal.n_peak_in_flight,
        "uploaded_files": n_uploads,
        "totals": _totals(world),
        "webhooks": outbox.totals(),
        "duplicate_intents": _duplicates(world.tasks),
    }
    if lists:
        log["accepted"] = [_spell_accepted(task) for task in world.tasks]
        log["deliveries"] = [parcel.spelled() for parcel in outbox.reports]
        log["charges"] = [_spell_charge(task) for task in world.tasks]
    return log


def _totals(world: World) -> dict[str, Any]:
    return {
        "accepted": len(world.tasks),
        "charged": format_cost(sum(task.cost or 0 for task in world.tasks)),
        "reserved_now": format_cost(sum(account.reserved for account in world.accounts)),
        "balance": format_cost(sum(account.balance for account in world.accounts)),
        "pending": sum(task.is_pending for task in world.tasks),
    }


def _spell_accepted(task: Task) -> dict[str, Any]:
    order = task.order if isinstance(task.order, Order) else None
    tag = None if isinstance(task.order, Inspection) else task.order.intent_tag
    return {
        "task_id": task.task_id,
        "intent_id": _intent_of(tag),
        "intent_tag": tag,
        "route": _ROUTES[task.type],
        "prompt": None if order is None else order.prompt,
        "model": None if order is None else order.model,
        "urls": [] if isinstance(task.order, Order) else list(task.order.urls),
        "count": task.n_images or None,
        "api_key_id": task.key.key_id,
        "estimated_cost": format_price(task.reserved),
        "at_us": task.created_us,
    }


def _spell_charge(task: Task) -> dict[str, Any]:
    cost = task.cost
    return {
        "task_id": task.task_id,
        "reserved": format_cost(task.reserved),
        "charged": None if cost is None else format_cost(cost),
        "refunded": None if cost is None else format_cost(task.reserved - cost),
        "status": task.status,
    }


def _duplicates(tasks: list[Task]) -> list[dict[str, Any]]:
    by_intent: defaultdict[str, list[str]] = defaultdict(list)
    for task in tasks:
        tag = None if isinstance(task.order, Inspection) else task.order.intent_tag
        if tag is not None:
            by_intent[_intent_of(tag) or ""].append(task.task_id)
    return [
        {"intent_id": intent_id, "task_ids": task_ids}
        for intent_id, task_ids in by_intent.items()
        if len(task_ids) > 1
    ]


def _intent_of(tag: str | None) -> str | None:
    return None if tag is None else tag.partition(".")[0]
