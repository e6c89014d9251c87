"""One request as the endpoints see it, and who sent it."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs

import orjson
from starlette.types import Scope

from mynth_dagster.clock import US_PER_S
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.accounts import PREFIX, Key, judge_token
from mynth_dagster.simulator.completion import View
from mynth_dagster.simulator.validation import (
    INVALID_JSON,
    MEDIA_TYPE,
    SCOPE,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    VALIDATION,
    Refusal,
)

if TYPE_CHECKING:
    from mynth_dagster.simulator.app import Service
    from mynth_dagster.simulator.scenario import KeyScope


class Call:
    """A request with its whole body."""

    def __init__(self, scope: Scope, route: Route, body: bytes, service: Service) -> None:
        self.scope = scope
        self.route = route
        self.body = body
        self.service = service
        self.token_fails = False

    def header(self, name: bytes) -> str:
        """A header's value by its lower-case name, or an empty string."""
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value.decode("latin-1"))
        return ""

    @cached_property
    def payload(self) -> Any:
        """The JSON body; None if it is none."""
        return None if self._read is None else self._read[0]

    @cached_property
    def _read(self) -> tuple[Any] | None:
        try:
            return (orjson.loads(self.body),)
        except orjson.JSONDecodeError:
            return None

    def json_object(self) -> dict[str, Any]:
        """
        The body as a JSON object.

        Raises:
            Refusal: It is something else, or is not called JSON.
        """
        if not self.header(b"content-type").startswith("application/json"):
            raise Refusal(MEDIA_TYPE, "The request body must be application/json.")
        if self._read is None:
            raise Refusal(INVALID_JSON, "The request body must be JSON.")
        if not isinstance(self.payload, dict):
            raise Refusal(VALIDATION, "The request body must be a JSON object.")
        return self.payload

    @property
    def prompt(self) -> str | None:
        """The positive prompt, in either revision's shape."""
        prompt = self.payload.get("prompt") if isinstance(self.payload, dict) else None
        if isinstance(prompt, dict):
            prompt = prompt.get("positive")
        return prompt if isinstance(prompt, str) else None

    def query(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values = parse_qs(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return values[name][-1] if name in values else None

    @property
    def base_url(self) -> str:
        """Scheme and host that clients reach images under, without a trailing slash."""
        public_url = self.service.scenario.public_url
        if public_url is not None:
            return public_url.rstrip("/")
        return f"{self.scope.get('scheme', 'http')}://{self.header(b'host')}"

    @property
    def view(self) -> View:
        """How tasks are spelled in the answer."""
        return View.under(self.base_url, self.service.scenario, self.service.destinations)

    @property
    def bearer(self) -> str:
        """The bearer token, or an empty string."""
        scheme, _, token = self.header(b"authorization").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def require_key(self, scope: KeyScope | None = None) -> Key:
        """
        The API key that sent the request, with a scope where the revision has it.

        Raises:
            Refusal: It is missing, unknown, revoked, a public access token, or lacks the scope.
        """
        bearer = self.bearer
        key = self.service.world.accounts.find(bearer)
        if key is None:
            is_token = bearer.startswith(PREFIX)
            text = defaults.WRONG_BEARER_TEXT if is_token else defaults.UNAUTHORIZED_TEXT
            raise Refusal(UNAUTHORIZED, text)
        if scope in self.service.revision.SCOPES and scope not in key.scopes:
            raise Refusal(SCOPE, defaults.SCOPE_TEXT)
        return key

    def require_key_or_token(self, task_id: str) -> Key | None:
        """
        The API key that sent the request; None if a token of just this task did.

        Raises:
            Refusal: Neither holds.
        """
        bearer = self.bearer
        if not bearer.startswith(PREFIX):
            return self.require_key()
        verdict = judge_token(bearer, task_id, self.service.clock.now_us())
        if verdict == "expired":
            raise Refusal(TOKEN_EXPIRED, defaults.EXPIRED_TEXT)
        if verdict == "wrong":
            raise Refusal(UNAUTHORIZED, defaults.WRONG_BEARER_TEXT)
        return None


# An HTTP answer as a value, so that a fault can still spoil it.


Headers = list[tuple[bytes, bytes]]

JSON_TYPE = b"application/json"
HTML_TYPE = b"text/html; charset=utf-8"


@dataclass(slots=True)
class Answer:
    """
    Status, body and headers; ``content-type`` and ``content-length`` are added when sent.

    ``length`` is the length to announce where it is not the body's (a truncated answer).
    """

    status: int
    body: bytes = b""
    content_type: bytes = JSON_TYPE
    headers: Headers = field(default_factory=list)
    length: int | None = None

    def all_headers(self) -> Headers:
        """What goes on the wire."""
        n_bytes = len(self.body) if self.length is None else self.length
        length = (b"content-length", b"%d" % n_bytes)
        if self.status == 204:
            return self.headers
        return [(b"content-type", self.content_type), length, *self.headers]


def answer_json(payload: Any, status: int = 200) -> Answer:
    """A JSON answer."""
    return Answer(status, orjson.dumps(payload))


def date_of(at_us: int) -> tuple[bytes, bytes]:
    """The ``Date`` header of an answer."""
    return b"date", _http_date(at_us // US_PER_S)


@lru_cache(maxsize=4)
def _http_date(at_s: int) -> bytes:
    return formatdate(at_s, usegmt=True).encode()


# From method and path to the route's name, as the log and the fault rules spell it.


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
