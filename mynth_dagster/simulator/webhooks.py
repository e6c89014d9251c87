"""Registered webhooks: created, replaced, deleted, and disabled when they keep failing."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.tasks import WebhookWish, compose_id, draw_whole

if TYPE_CHECKING:
    from mynth_dagster.simulator.scenario import Endpoint, Scenario


_ID_PREFIXES = {"2026-10": "whk_"}

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
        self._revision = scenario.revision
        self._n_added = 0
        self._webhooks: dict[str, Webhook] = {}
        self.n_disabled = 0
        self._register(scenario.webhooks, at_us)

    def adopt(self, scenario: Scenario, before: Scenario, at_us: int) -> None:
        """
        Register what a changed scenario has and the one before had not.

        An endpoint with the address of one that was there takes its place, with its secret.
        """
        self._revision = scenario.revision
        for endpoint in scenario.webhooks:
            if endpoint in before.webhooks:
                continue
            old = self._like(endpoint, before)
            if old is None:
                self._register([endpoint], at_us)
            else:
                wish, secret = _wish_of(endpoint), _secret_of(endpoint)
                changed = replace(old, wish=wish, secret=secret, updated_us=at_us)
                self._webhooks[old.webhook_id] = changed

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
            self._keep(_wish_of(endpoint), endpoint.user_id, _secret_of(endpoint), at_us)

    def _like(self, endpoint: Endpoint, before: Scenario) -> Webhook | None:
        place = (endpoint.user_id, endpoint.url)
        if place not in {(known.user_id, known.url) for known in before.webhooks}:
            return None
        found = (hook for hook in self._webhooks.values() if (hook.user_id, hook.wish.url) == place)
        return next(found, None)

    def _keep(self, wish: WebhookWish, user_id: str, secret: str, at_us: int) -> Webhook:
        self._n_added += 1
        prefix = _ID_PREFIXES.get(self._revision, "wh_")
        webhook_id = compose_id(prefix, self._seed, self._n_added)
        webhook = Webhook(webhook_id, user_id, secret, wish, at_us, at_us)
        self._webhooks[webhook_id] = webhook
        return webhook

    def _find(self, webhook_id: str, user_id: str) -> Webhook | None:
        webhook = self._webhooks.get(webhook_id)
        return webhook if webhook is not None and webhook.user_id == user_id else None


def _wish_of(endpoint: Endpoint) -> WebhookWish:
    return WebhookWish(
        endpoint.enabled,
        endpoint.url,
        list(endpoint.events),
        endpoint.api_key_ids,
        endpoint.include_session_tasks,
    )


def _secret_of(endpoint: Endpoint) -> str:
    return defaults.WEBHOOK_SECRET if endpoint.secret is None else endpoint.secret


# How deliveries are signed, and how the secrets look that sign them.


STANDARD_PREFIX: Final = "whsec_"


def sign_hex(body: bytes, secret: str, at_s: int) -> str:
    """Until 2026-08: HMAC-SHA256 over time and raw body, with the whole secret as key."""
    digest = hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def sign_standard(event_id: str, at_s: int, body: bytes, secret: str) -> str:
    """Since 2026-10: HMAC-SHA256 over id, time and raw body, as Standard Webhooks has it."""
    key = b64decode(secret.removeprefix(STANDARD_PREFIX))
    message = f"{event_id}.{at_s}.".encode() + body
    return "v1," + b64encode(hmac.digest(key, message, "sha256")).decode()


def compose_plain_secret(prefix: str, seed: int, number: int) -> str:
    """A secret of the days when its whole text was the key."""
    return f"{prefix}{draw_whole(seed, 'webhook secret', number):016x}"


def compose_standard_secret(seed: int, number: int) -> str:
    """``whsec_`` and 24 bytes in base64."""
    parts = (draw_whole(seed, "webhook secret", number, i) for i in range(3))
    key = b"".join(part.to_bytes(8, "big") for part in parts)
    return STANDARD_PREFIX + b64encode(key).decode()


def is_standard_secret(secret: str) -> bool:
    """Whether a secret can sign since 2026-10."""
    try:
        key = b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return secret.startswith(STANDARD_PREFIX) and bool(key)


def standard_secret(secret: str) -> str:
    """
    The secret that a webhook has since 2026-10.

    Registered webhooks got new secrets with that revision: one of the earlier kind is replaced by
    one that is made of it.
    """
    if is_standard_secret(secret):
        return secret
    if secret == defaults.WEBHOOK_SECRET:
        return defaults.STANDARD_WEBHOOK_SECRET
    return STANDARD_PREFIX + b64encode(hashlib.sha256(secret.encode()).digest()).decode()
