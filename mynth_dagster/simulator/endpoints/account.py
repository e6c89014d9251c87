"""Routes about the account: who am I, what is left, which models, and webhook management."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.calls import Answer, answer_json
from mynth_dagster.simulator.validation import NOT_FOUND, UNAUTHORIZED, Refusal

if TYPE_CHECKING:
    from mynth_dagster.simulator.accounts import Key
    from mynth_dagster.simulator.calls import Call


def models(call: Call) -> Answer:
    """``GET /models``: the catalog, without any key."""
    service = call.service
    return _wrap(call, service.revision.account.models(service.world.prices))


def me(call: Call) -> Answer:
    """``GET /me``: the account and the key in use."""
    key = call.require_key()
    call.service.world.complete_due()
    return _wrap(call, call.service.revision.account.me(key, call.service.clock.now_us()))


def balance(call: Call) -> Answer:
    """``GET /balance``: the account's money."""
    key = call.require_key("manage")
    call.service.world.complete_due()
    return _wrap(call, call.service.revision.account.balance(key, call.service.clock.now_us()))


def create_webhook(call: Call) -> Answer:
    """``POST /webhook``: the one answer that shows the secret."""
    key = require_manager(call)
    service = call.service
    wish = service.revision.requests.read_webhook(call.json_object())
    compose_secret = partial(service.revision.deliveries.compose_secret, service.quirks)
    webhook = service.webhooks.add(wish, key.user_id, compose_secret, service.clock.now_us())
    return _wrap(call, service.revision.account.webhook(webhook, is_new=True), 201)


def replace_webhook(call: Call) -> Answer:
    """``PUT /webhook/:id``: a full replacement; the secret stays."""
    key = require_manager(call)
    service = call.service
    wish = service.revision.requests.read_webhook(call.json_object())
    now_us = service.clock.now_us()
    webhook = service.webhooks.replace(call.route.param, wish, key.user_id, now_us)
    if webhook is None:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    return _wrap(call, service.revision.account.webhook(webhook, is_new=False))


def delete_webhook(call: Call) -> Answer:
    """``DELETE /webhook/:id``."""
    key = require_manager(call)
    if not call.service.webhooks.remove(call.route.param, key.user_id):
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    return Answer(204)


def _wrap(call: Call, data: object, status: int = 200) -> Answer:
    return answer_json(call.service.revision.answers.wrapped(data), status)


def require_manager(call: Call) -> Key:
    """
    The API key that sent the request, if it may manage webhooks and destinations.

    Raises:
        Refusal: It may not.
    """
    key = call.require_key("manage")
    if call.service.quirks.webhook_management == "oauth":
        raise Refusal(UNAUTHORIZED, defaults.OAUTH_ONLY_TEXT)
    return key
