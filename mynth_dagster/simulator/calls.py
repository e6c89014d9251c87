"""One request as the endpoints see it, and who sent it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
from starlette.types import Scope

from mynth_dagster.simulator import invented
from mynth_dagster.simulator.accounts import Key
from mynth_dagster.simulator.refusals import (
    INVALID_JSON,
    MEDIA_TYPE,
    SCOPE,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    VALIDATION,
    Refusal,
)
from mynth_dagster.simulator.results import View
from mynth_dagster.simulator.tokens import PREFIX, judge_token

if TYPE_CHECKING:
    from mynth_dagster.simulator.routes import Route
    from mynth_dagster.simulator.scenario import KeyScope
    from mynth_dagster.simulator.service import Service


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
            text = invented.WRONG_BEARER_TEXT if is_token else invented.UNAUTHORIZED_TEXT
            raise Refusal(UNAUTHORIZED, text)
        if scope in self.service.revision.SCOPES and scope not in key.scopes:
            raise Refusal(SCOPE, invented.SCOPE_TEXT)
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
            raise Refusal(TOKEN_EXPIRED, invented.EXPIRED_TEXT)
        if verdict == "wrong":
            raise Refusal(UNAUTHORIZED, invented.WRONG_BEARER_TEXT)
        return None
