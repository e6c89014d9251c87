"""Registered webhooks: created, replaced, deleted, and disabled when they keep failing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mynth_dagster.simulator.ids import compose_id
from mynth_dagster.simulator.orders import WebhookWish

if TYPE_CHECKING:
    from mynth_dagster.simulator.deliveries import Endpoint
    from mynth_dagster.simulator.scenario import Scenario

SecretMaker = Callable[[int, int], str]


@dataclass(frozen=True, slots=True)
class Webhook:
    """One registered webhook of an account; times are UTC microseconds."""

    webhook_id: str
    user_id: str
    secret: str
    wish: WebhookWish
    created_us: int
    updated_us: int


class WebhookStore:
    """The registered webhooks of all accounts."""

    def __init__(self, scenario: Scenario, at_us: int) -> None:
        self._seed = scenario.seed
        self._n_added = 0
        self._webhooks: dict[str, Webhook] = {}
        self.n_disabled = 0
        self._register(scenario.webhooks, at_us)

    def adopt(self, scenario: Scenario, before: Scenario, at_us: int) -> None:
        """Register what a changed scenario has and the one before had not."""
        new = [endpoint for endpoint in scenario.webhooks if endpoint not in before.webhooks]
        self._register(new, at_us)

    def of(self, user_id: str) -> list[Webhook]:
        """An account's webhooks in the order of their creation."""
        return [webhook for webhook in self._webhooks.values() if webhook.user_id == user_id]

    def add(
        self, wish: WebhookWish, user_id: str, compose_secret: SecretMaker, at_us: int
    ) -> Webhook:
        """Register a webhook under a new id, with a secret made from seed and running number."""
        secret = compose_secret(self._seed, self._n_added + 1)
        return self._keep(wish, user_id, secret, at_us)

    def find(self, webhook_id: str) -> Webhook | None:
        """A webhook of any account."""
        return self._webhooks.get(webhook_id)

    def disable(self, webhook_id: str, at_us: int) -> None:
        """Deliver to it no more, until it is replaced by one that is enabled."""
        webhook = self._webhooks.get(webhook_id)
        if webhook is not None and webhook.wish.enabled:
            wish = replace(webhook.wish, enabled=False)
            self._webhooks[webhook_id] = replace(webhook, wish=wish, updated_us=at_us)
            self.n_disabled += 1

    def replace(
        self, webhook_id: str, wish: WebhookWish, user_id: str, at_us: int
    ) -> Webhook | None:
        """Replace all that can be chosen; None if the account has no such webhook."""
        webhook = self._find(webhook_id, user_id)
        if webhook is None:
            return None
        self._webhooks[webhook_id] = replace(webhook, wish=wish, updated_us=at_us)
        return self._webhooks[webhook_id]

    def remove(self, webhook_id: str, user_id: str) -> bool:
        """Forget a webhook; whether the account had it."""
        if self._find(webhook_id, user_id) is None:
            return False
        del self._webhooks[webhook_id]
        return True

    def _register(self, endpoints: Iterable[Endpoint], at_us: int) -> None:
        for endpoint in endpoints:
            wish = WebhookWish(endpoint.enabled, endpoint.url, list(endpoint.events))
            self._keep(wish, endpoint.user_id, endpoint.secret, at_us)

    def _keep(self, wish: WebhookWish, user_id: str, secret: str, at_us: int) -> Webhook:
        self._n_added += 1
        webhook_id = compose_id("wh_", self._seed, self._n_added)
        webhook = Webhook(webhook_id, user_id, secret, wish, at_us, at_us)
        self._webhooks[webhook_id] = webhook
        return webhook

    def _find(self, webhook_id: str, user_id: str) -> Webhook | None:
        webhook = self._webhooks.get(webhook_id)
        return webhook if webhook is not None and webhook.user_id == user_id else None
