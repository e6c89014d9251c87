"""Which endpoint serves which route, and the answers for everything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.calls import FILES, POLLED, Answer
from mynth_dagster.simulator.endpoints import account, creation, destinations, files, reading
from mynth_dagster.simulator.validation import METHOD, NOT_FOUND, Refusal

if TYPE_CHECKING:
    from mynth_dagster.simulator.calls import Call, Route
    from mynth_dagster.simulator.revisions import Revision

Endpoint = Callable[["Call"], Answer | Awaitable[Answer]]

ENDPOINTS: MappingProxyType[str, Endpoint] = MappingProxyType(
    {
        "POST /image/generate": creation.generate,
        "POST /image/generate/estimate": creation.estimate,
        "POST /image/rate": creation.inspect,
        "POST /image/alt": creation.inspect,
        "POST /image/review": creation.inspect,
        "POST /image/upscale": creation.rework,
        "POST /image/remove-background": creation.rework,
        "POST /image/upload": files.upload,
        "GET /tasks": reading.list_tasks,
        "GET /tasks/:id": reading.detail,
        "GET /tasks/:id/status": reading.status,
        "GET /tasks/:id/result": reading.result,
        "GET /tasks/:id/results": reading.result,
        "GET /models": account.models,
        "GET /me": account.me,
        "GET /balance": account.balance,
        "POST /webhook": account.create_webhook,
        "PUT /webhook/:id": account.replace_webhook,
        "DELETE /webhook/:id": account.delete_webhook,
        "POST /webhooks": account.create_webhook,
        "PUT /webhooks/:id": account.replace_webhook,
        "DELETE /webhooks/:id": account.delete_webhook,
        "POST /destinations": destinations.create,
        "GET /destinations": destinations.show_all,
        "GET /destinations/:id": destinations.show,
        "PUT /destinations/:id": destinations.replace,
        "DELETE /destinations/:id": destinations.delete,
        "POST /destinations/:id/test": destinations.test,
        f"GET {FILES}": files.serve_file,
        f"HEAD {FILES}": files.serve_file,
    }
)

_FILE_ROUTES = frozenset({f"GET {FILES}", f"HEAD {FILES}"})
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")

CORS = (b"access-control-allow-origin", b"*")
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, content-type"),
    (b"access-control-max-age", b"600"),
)


def find_endpoint(route: Route, revision: Revision, *, offers_review: bool) -> Endpoint:
    """
    The endpoint of a route that the revision has.

    Raises:
        Refusal: 404 for a path, 405 for a method that the revision does not have.
    """
    offered = revision.ROUTES | _FILE_ROUTES
    if not offers_review:
        offered = offered - {"POST /image/review"}
    if route.name in offered:
        return ENDPOINTS[route.name]
    if route.method == "OPTIONS" and route.pattern in POLLED and f"GET {route.pattern}" in offered:
        return _preflight
    if any(f"{method} {route.pattern}" in offered for method in _METHODS):
        raise Refusal(METHOD, defaults.METHOD_TEXT)
    raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)


def _preflight(_: Call) -> Answer:
    return Answer(204, headers=list(_PREFLIGHT))
