"""From method and path to the route's name, as the log and the fault rules spell it."""

from __future__ import annotations

from typing import Final, NamedTuple

_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_EXACT: Final = frozenset(
    {
        "/image/generate",
        "/image/generate/estimate",
        "/image/upload",
        "/image/rate",
        "/image/alt",
        "/image/review",
        "/image/upscale",
        "/image/remove-background",
        "/tasks",
        "/models",
        "/me",
        "/balance",
        "/webhook",
    }
)
_WITH_IDS: Final = frozenset({"webhook", "webhooks", "destinations"})
_TASK_WORDS: Final = ("status", "result", "results")
POLLED: Final = frozenset({"/tasks/:id/status", "/tasks/:id/result", "/tasks/:id/results"})
"""Routes that browsers may ask with a public access token: they answer any origin."""

FILES: Final = "/cdn/:file"


class Route(NamedTuple):
    """A route: its method, its path with ``:id`` for what varies, and that part's value."""

    method: str
    pattern: str
    param: str = ""

    @property
    def name(self) -> str:
        """``GET /tasks/:id/status``."""
        return f"{self.method} {self.pattern}"


def find_route(method: str, path: str) -> Route:
    """The route of a request; the pattern ``(unknown)`` if no revision has such a path."""
    if method not in _METHODS:
        return Route("OTHER", "(unknown)")
    if path in _EXACT:
        return Route(method, path)
    _, _, rest = path.partition("/")
    head, _, tail = rest.partition("/")
    if head == "tasks":
        return _task_route(method, tail)
    if head in _WITH_IDS:
        return _route_with_id(method, head, tail)
    if head == "cdn" and tail:
        return Route(method, FILES, tail)
    return Route(method, "(unknown)")


def _route_with_id(method: str, head: str, tail: str) -> Route:
    if not tail:
        return Route(method, f"/{head}")
    entry_id, _, word = tail.partition("/")
    if head != "destinations" or not word:
        return Route(method, f"/{head}/:id", tail)
    if word == "test" and entry_id:
        return Route(method, "/destinations/:id/test", entry_id)
    return Route(method, "(unknown)")


def _task_route(method: str, tail: str) -> Route:
    task_id, _, word = tail.partition("/")
    if task_id and not word:
        return Route(method, "/tasks/:id", task_id)
    if task_id and word in _TASK_WORDS:
        return Route(method, f"/tasks/:id/{word}", task_id)
    return Route(method, "(unknown)")
