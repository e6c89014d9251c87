"""
What the simulator saw: the witness that tests judge by.

Requests are counted when they arrive, answers when they leave; tasks are in the log from the
moment they exist, whatever becomes of the answer that tells of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from mynth_dagster.simulator.defaults import format_cost, format_price
from mynth_dagster.simulator.state import State
from mynth_dagster.simulator.tasks import GenerateRequest, SimulatedTask

CUT = "cut"
"""Key in ``responses`` for connections closed instead of, or within, an answer."""


class ConnectionCounts:
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


class RequestCounts:
    """Counts of requests and answers since the last reset."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.responses: Counter[str] = Counter()
        self.n_in_flight = 0
        self.n_peak_in_flight = 0

    def arrived(self, route: str) -> None:
        """Note a request of the API."""
        self.requests[route] += 1
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
    state: State, counts: RequestCounts, connections: ConnectionCounts, *, lists: bool
) -> dict[str, Any]:
    """The whole log as plain JSON values; without its three lists if not ``lists``."""
    state.complete_due()
    tasks = state.tasks
    log: dict[str, Any] = {
        "requests": dict(counts.requests),
        "responses": dict(counts.responses),
        "connections": {
            "opened": connections.n_opened,
            "open": connections.n_open,
            "peak_open": connections.n_peak,
        },
        "peak_in_flight": counts.n_peak_in_flight,
        "uploaded_files": state.uploads.n_added,
        "totals": {
            "accepted": len(tasks),
            "charged": format_cost(sum(task.cost or 0 for task in tasks)),
            "reserved_now": format_cost(sum(account.reserved for account in state.accounts)),
            "balance": format_cost(sum(account.balance for account in state.accounts)),
            "pending": sum(task.is_pending for task in tasks),
        },
        "webhooks": state.webhook_queue.totals(),
        "duplicate_intents": _duplicate_intents(tasks),
    }
    if lists:
        log["accepted"] = [_accepted_entry(task) for task in tasks]
        log["deliveries"] = [delivery.report() for delivery in state.webhook_queue.deliveries]
        log["charges"] = [_charge_entry(task) for task in tasks]
    return log


def _accepted_entry(task: SimulatedTask) -> dict[str, Any]:
    request = task.request
    return {
        "task_id": task.task_id,
        "intent_id": _intent_of(request.intent_tag),
        "intent_tag": request.intent_tag,
        "route": f"POST /{task.type.replace('.', '/').replace('_', '-')}",
        "prompt": request.prompt if isinstance(request, GenerateRequest) else None,
        "model": request.model if isinstance(request, GenerateRequest) else None,
        "urls": [] if isinstance(request, GenerateRequest) else list(request.urls),
        "count": task.n_images or None,
        "api_key_id": task.key.key_id,
        "estimated_cost": format_price(task.reserved),
        "at_us": task.created_us,
    }


def _charge_entry(task: SimulatedTask) -> dict[str, Any]:
    cost = task.cost
    return {
        "task_id": task.task_id,
        "reserved": format_cost(task.reserved),
        "charged": None if cost is None else format_cost(cost),
        "refunded": None if cost is None else format_cost(task.reserved - cost),
        "status": task.status,
    }


def _duplicate_intents(tasks: list[SimulatedTask]) -> list[dict[str, Any]]:
    by_intent: defaultdict[str, list[str]] = defaultdict(list)
    for task in tasks:
        intent_id = _intent_of(task.request.intent_tag)
        if intent_id is not None:
            by_intent[intent_id].append(task.task_id)
    return [
        {"intent_id": intent_id, "task_ids": task_ids}
        for intent_id, task_ids in by_intent.items()
        if len(task_ids) > 1
    ]


def _intent_of(tag: str | None) -> str | None:
    return None if tag is None else tag.partition(".")[0]
