"""What an API revision has to offer, and how times are written in all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

from mynth_dagster.clock import US_PER_S, utc_from_us
from mynth_dagster.limits import RevisionLimits
from mynth_dagster.simulator.accounts import Key
from mynth_dagster.simulator.completion import PriceBook, Rendering
from mynth_dagster.simulator.destinations import StoredDestination
from mynth_dagster.simulator.scenario import Quirks, TaskType
from mynth_dagster.simulator.tasks import (
    AnalysisRequest,
    EditRequest,
    GenerateRequest,
    SimulatedTask,
)
from mynth_dagster.simulator.validation import ErrorCode, Refusal
from mynth_dagster.simulator.webhooks import Webhook, WebhookDelivery, WebhookSpec

RequestBody = Mapping[str, Any]
Payload = dict[str, Any]


class Revision:
    """
    One API revision: reads request bodies and composes what is answered, without its envelope.

    Each revision is a class that inherits from the one before, so that what did not change stands
    once. What serves a route that is not among ``routes`` may be missing.

    Attributes:
        name: ``2026-10`` and the like.
        limits: Documented limits.
        routes: The API's routes, ``GET /tasks/:id`` and the like.
        renamed_errors: What the revision calls some kinds of refusal.
        scopes: Scopes of keys that its routes ask for.
        upload_lifetime_s: How long uploads live, seconds; None: for ever.
        refuses_unknown_destinations: Whether a request may name the account's destinations only.
        rates_at_once: Whether ratings are answered with their results.
    """

    name: ClassVar[str]
    limits: ClassVar[RevisionLimits]
    routes: ClassVar[frozenset[str]]
    renamed_errors: ClassVar[Mapping[ErrorCode, ErrorCode]] = MappingProxyType({})
    scopes: ClassVar[frozenset[str]] = frozenset()
    upload_lifetime_s: ClassVar[float | None] = None
    refuses_unknown_destinations: ClassVar[bool] = False
    rates_at_once: ClassVar[bool] = False

    # Requests; each of these raises `Refusal`.

    def read_generate(self, body: RequestBody, quirks: Quirks, *, strict: bool) -> GenerateRequest:
        """A body of ``POST /image/generate`` and of its estimate."""
        raise NotImplementedError

    def read_analysis(
        self, task_type: TaskType, body: RequestBody, *, strict: bool
    ) -> AnalysisRequest:
        """A body of ``POST /image/rate``, ``/image/alt`` or ``/image/review``."""
        raise NotImplementedError

    def read_edit(self, task_type: TaskType, body: RequestBody) -> EditRequest:
        """A body of ``POST /image/upscale`` or ``/image/remove-background``."""
        raise NotImplementedError

    def read_webhook(self, body: RequestBody) -> WebhookSpec:
        """A body that makes or replaces a registered webhook."""
        raise NotImplementedError

    # Answers.

    def wrap(self, data: object) -> object:
        """A successful answer in the revision's envelope."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal, quirks: Quirks) -> tuple[Payload, int]:
        """The body and the status of an answer that says no."""
        error = self.renamed_errors.get(refusal.error, refusal.error)
        status = error.status if refusal.status is None else refusal.status
        return self.error_body(error, refusal, status, quirks), status

    def error_body(
        self, error: ErrorCode, refusal: Refusal, status: int, quirks: Quirks
    ) -> Payload:
        """The body of an answer that says no, for the kind of refusal that the revision knows."""
        raise NotImplementedError

    def created(self, task: SimulatedTask, token: str | None) -> Payload:
        """A task just made, and a public access token if one was issued."""
        raise NotImplementedError

    def result(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        """What the result route tells."""
        raise NotImplementedError

    def detail(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        """The full task."""
        raise NotImplementedError

    def task_page(self, tasks: Iterable[SimulatedTask]) -> list[Payload]:
        """Entries of the task list."""
        raise NotImplementedError

    def models(self, prices: PriceBook) -> list[Payload]:
        """The catalogue."""
        raise NotImplementedError

    def estimate(self, units: int, kind: str) -> Payload:
        """A price before it is held."""
        raise NotImplementedError

    def me(self, key: Key, now_us: int) -> Payload:
        """The account and the key in use."""
        raise NotImplementedError

    def balance(self, key: Key, now_us: int) -> Payload:
        """The account's money."""
        raise NotImplementedError

    def webhook(self, webhook: Webhook, *, is_new: bool) -> Payload:
        """A registered webhook; its secret is shown once, when it is new."""
        raise NotImplementedError

    def destination(self, destination: StoredDestination) -> Payload:
        """A user's own storage; its secret is never shown."""
        raise NotImplementedError

    # Webhooks.

    def event(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        """The body of a webhook that tells of a task's end; it has no envelope."""
        raise NotImplementedError

    def delivery_headers(
        self, delivery: WebhookDelivery, secret: str | None, at_s: int, quirks: Quirks
    ) -> dict[str, str]:
        """The headers of one attempt at ``at_s`` (Unix seconds); unsigned without a secret."""
        raise NotImplementedError

    def new_secret(self, quirks: Quirks, seed: int, number: int) -> str:
        """The secret of the ``number``-th registered webhook."""
        raise NotImplementedError


def format_time(at_us: int) -> str:
    """A microsecond timestamp as the API writes it: ``2026-11-22T06:42:00.123Z``."""
    seconds, rest_us = divmod(at_us, US_PER_S)
    return f"{_format_second(seconds)}.{rest_us // 1_000:03d}Z"


@lru_cache(maxsize=1024)
def _format_second(seconds: int) -> str:
    return utc_from_us(seconds * US_PER_S).strftime("%Y-%m-%dT%H:%M:%S")
