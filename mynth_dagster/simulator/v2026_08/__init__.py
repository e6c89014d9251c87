"""API revision 2026-08: `requests` reads what comes in, `answers` spells what goes out."""

from __future__ import annotations

from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.simulator.v2026_08 import answers, requests

REVISION = "2026-08"
LIMITS = LIMITS_BY_REVISION[REVISION]
RESULT_WORD = "result"
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
    }
)

__all__ = ["LIMITS", "RESULT_WORD", "REVISION", "ROUTES", "answers", "requests"]
