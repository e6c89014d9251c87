"""API revision 2026-08: `requests` reads what comes in, the rest spells what goes out."""

from __future__ import annotations

from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.simulator.v2026_04 import deliveries
from mynth_dagster.simulator.v2026_08 import account, answers, requests
from mynth_dagster.simulator.validation import (
    INVALID_JSON,
    MEDIA_TYPE,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    VALIDATION,
)

REVISION = "2026-08"
LIMITS = LIMITS_BY_REVISION[REVISION]
RESULT_WORD = "result"
SCOPES: frozenset[str] = frozenset()
UPLOAD_LIFETIME_S = None
REFUSES_UNKNOWN_DESTINATIONS = False
REASONS = {INVALID_JSON: VALIDATION, MEDIA_TYPE: VALIDATION, TOKEN_EXPIRED: UNAUTHORIZED}
ROUTES = frozenset(
    {
        "POST /image/generate",
        "POST /image/generate/estimate",
        "POST /image/upload",
        "POST /image/rate",
        "POST /image/alt",
        "POST /image/review",
        "GET /tasks",
        "GET /tasks/:id",
        "GET /tasks/:id/status",
        "GET /tasks/:id/result",
        "GET /models",
        "GET /me",
        "GET /balance",
        "POST /webhook",
        "PUT /webhook/:id",
        "DELETE /webhook/:id",
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
