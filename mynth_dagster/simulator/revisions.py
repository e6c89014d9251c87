"""Which module speaks which API revision; all of them offer the same names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast

from mynth_dagster.limits import RevisionLimits
from mynth_dagster.simulator import v2026_04, v2026_08, v2026_10
from mynth_dagster.simulator.accounts import Key
from mynth_dagster.simulator.completion import PriceBook, View
from mynth_dagster.simulator.destinations import OwnStorage
from mynth_dagster.simulator.scenario import Quirks
from mynth_dagster.simulator.tasks import Inspection, Order, Rework, Task, WebhookWish
from mynth_dagster.simulator.validation import Reason, Refusal
from mynth_dagster.simulator.webhooks import Webhook

if TYPE_CHECKING:
    from mynth_dagster.simulator.deliveries import Parcel


class Requests(Protocol):
    """How a revision's request bodies are read; each raises `Refusal`."""

    def read_generate(self, body: Mapping[str, Any], quirks: Quirks, *, strict: bool) -> Order: ...

    def read_inspection(
        self, route: str, body: Mapping[str, Any], *, strict: bool
    ) -> Inspection: ...

    def read_rework(self, route: str, body: Mapping[str, Any]) -> Rework: ...

    def read_webhook(self, body: Mapping[str, Any]) -> WebhookWish: ...


class Answers(Protocol):
    """How a revision spells tasks and errors."""

    def created(self, task: Task, token: str | None) -> dict[str, Any]: ...

    def status(self, word: str) -> dict[str, Any]: ...

    def result(self, task: Task, view: View) -> dict[str, Any]: ...

    def detail(self, task: Task, view: View) -> dict[str, Any]: ...

    def task_page(self, tasks: Iterable[Task]) -> dict[str, Any]: ...

    def event(self, task: Task, view: View) -> dict[str, Any]: ...

    def uploaded(self, urls: list[str]) -> dict[str, Any]: ...

    def wrapped(self, data: object) -> object: ...

    def error(self, refusal: Refusal, quirks: Quirks) -> dict[str, Any]: ...


class Account(Protocol):
    """How a revision spells everything else, without its envelope."""

    def models(self, prices: PriceBook) -> list[dict[str, Any]]: ...

    def estimate(self, units: int, kind: str) -> dict[str, Any]: ...

    def me(self, key: Key, now_us: int) -> dict[str, Any]: ...

    def balance(self, key: Key, now_us: int) -> dict[str, Any]: ...

    def webhook(self, record: Webhook, *, is_new: bool) -> dict[str, Any]: ...

    def destination(self, record: OwnStorage) -> dict[str, Any]: ...


class Deliveries(Protocol):
    """How a revision signs the events that it sends."""

    def headers(
        self, parcel: Parcel, secret: str | None, at_s: int, quirks: Quirks
    ) -> dict[str, str]: ...

    def compose_secret(self, quirks: Quirks, seed: int, number: int) -> str: ...


class Revision(Protocol):
    """
    One API revision; what serves a route that is not among its ``ROUTES`` may be missing.

    ``REASONS`` renames the reasons of refusals that the revision calls something else; ``SCOPES``
    are those of its keys that its routes ask for; uploads live for ever where
    ``UPLOAD_LIFETIME_S`` is None.
    """

    REVISION: str
    LIMITS: RevisionLimits
    RESULT_WORD: str
    ROUTES: frozenset[str]
    REASONS: Mapping[Reason, Reason]
    SCOPES: frozenset[str]
    UPLOAD_LIFETIME_S: float | None
    REFUSES_UNKNOWN_DESTINATIONS: bool
    requests: Requests
    answers: Answers
    account: Account
    deliveries: Deliveries


REVISIONS: MappingProxyType[str, Revision] = MappingProxyType(
    {module.REVISION: cast("Revision", module) for module in (v2026_04, v2026_08, v2026_10)}
)
