"""API revision 2026-10: `requests` reads what comes in, the rest spells what goes out."""

from __future__ import annotations

from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.simulator.v2026_10 import account, answers, deliveries, requests
from mynth_dagster.simulator.validation import SERVER, Reason

REVISION = "2026-10"
LIMITS = LIMITS_BY_REVISION[REVISION]
RESULT_WORD = "result"
REASONS = {SERVER: Reason("internal_server_error", 500)}
SCOPES = frozenset({"generate", "manage"})  # those that a route of the simulator asks for
UPLOAD_LIFETIME_S = 86_400.0
REFUSES_UNKNOWN_DESTINATIONS = True
ROUTES = frozenset(
    {
        "POST /image/generate",
        "POST /image/generate/estimate",
        "POST /image/upload",
        "POST /image/rate",
        "POST /image/alt",
        "POST /image/review",
        "POST /image/upscale",
        "POST /image/remove-background",
        "GET /tasks",
        "GET /tasks/:id",
        "GET /tasks/:id/status",
        "GET /tasks/:id/result",
        "GET /models",
        "GET /me",
        "GET /balance",
        "POST /webhooks",
        "PUT /webhooks/:id",
        "DELETE /webhooks/:id",
        "POST /destinations",
        "GET /destinations",
        "GET /destinations/:id",
        "PUT /destinations/:id",
        "DELETE /destinations/:id",
        "POST /destinations/:id/test",
    }
)

__all__ = [
    "LIMITS",
    "REASONS",
    "REFUSES_UNKNOWN_DESTINATIONS",
    "RESULT_WORD",
    "REVISION",
    "ROUTES",
    "SCOPES",
    "UPLOAD_LIFETIME_S",
    "account",
    "answers",
    "deliveries",
    "requests",
]
