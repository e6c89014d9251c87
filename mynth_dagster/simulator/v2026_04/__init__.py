"""API revision 2026-04: `requests` reads what comes in, the rest spells what goes out."""

from __future__ import annotations

from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.simulator.v2026_04 import account, answers, deliveries, requests
from mynth_dagster.simulator.validation import (
    INVALID_JSON,
    MEDIA_TYPE,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    VALIDATION,
)

REVISION = "2026-04"
LIMITS = LIMITS_BY_REVISION[REVISION]
RESULT_WORD = "results"
SCOPES: frozenset[str] = frozenset()
UPLOAD_LIFETIME_S = None
REFUSES_UNKNOWN_DESTINATIONS = False
REASONS = {INVALID_JSON: VALIDATION, MEDIA_TYPE: VALIDATION, TOKEN_EXPIRED: UNAUTHORIZED}
ROUTES = frozenset(
    {
        "POST /image/generate",
        "POST /image/upload",
        "POST /image/rate",
        "GET /tasks/:id",
        "GET /tasks/:id/status",
        "GET /tasks/:id/results",
        "POST /webhook",
        "PUT /webhook/:id",
        "DELETE /webhook/:id",
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
