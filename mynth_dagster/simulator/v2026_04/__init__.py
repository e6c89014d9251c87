"""API revision 2026-04: `requests` reads what comes in, `answers` spells what goes out."""

from __future__ import annotations

from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.simulator.v2026_04 import answers, requests

REVISION = "2026-04"
LIMITS = LIMITS_BY_REVISION[REVISION]
RESULT_WORD = "results"
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

__all__ = ["LIMITS", "RESULT_WORD", "REVISION", "ROUTES", "answers", "requests"]
