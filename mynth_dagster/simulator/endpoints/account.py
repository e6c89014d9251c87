"""Routes about the account: who am I, what is left, which models, and webhook management."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mynth_dagster.simulator import invented
from mynth_dagster.simulator.amounts import spell_trimmed
from mynth_dagster.simulator.answers import Answer, answer_json
from mynth_dagster.simulator.refusals import NOT_FOUND, UNAUTHORIZED, Refusal

if TYPE_CHECKING:
    from mynth_dagster.simulator.accounts import Key
    from mynth_dagster.simulator.calls import Call


def models(call: Call) -> Answer:
    """``GET /models``: the catalog, without any key."""
    prices = call.service.world.prices
    listed = [
        {"id": model.model_id, "displayName": model.label, "pricing": prices.of(model_id).spelled()}
        for model_id, model in prices.models.items()
    ]
    return answer_json(call.service.revision.answers.wrapped(listed))


def me(call: Call) -> Answer:
    """``GET /me``: the account and the key in use."""
    key = call.require_key()
    spelled = {"id": key.key_id, "name": key.name, "keyPreview": key.preview}
    who = {"userId": key.user_id, "auth": {"method": "api-key", "apiKey": spelled}}
    return answer_json(call.service.revision.answers.wrapped(who))


def balance(call: Call) -> Answer:
    """``GET /balance``: the account's money, and the key's limit if it has one."""
    key = call.require_key()
    call.service.world.settle_due()
    account = key.account
    spelled: dict[str, Any] = {
        "balance": spell_trimmed(account.balance),
        "reserved": spell_trimmed(account.reserved),
        "available": spell_trimmed(account.available),
        "currency": "usd",
    }
    if key.limit is not None:
        used = key.used(call.service.clock.now_us())
        spelled["apiKey"] = {
            "spendingLimit": spell_trimmed(key.limit),
            "spendingLimitPeriod": key.period_word,
            "usedInPeriod": spell_trimmed(used),
            "remainingInPeriod": spell_trimmed(max(key.limit - used, 0)),
        }
    return answer_json(call.service.revision.answers.wrapped(spelled))


def create_webhook(call: Call) -> Answer:
    """``POST /webhook``: the one answer that shows the secret."""
    key = _require_manager(call)
    service = call.service
    wish = service.revision.requests.read_webhook(call.json_object())
    prefix = service.choices.webhook_secret_prefix or ""
    webhook = service.webhooks.add(wish, key.user_id, prefix, service.clock.now_us())
    return answer_json(service.revision.answers.wrapped(webhook.spelled(with_secret=True)), 201)


def replace_webhook(call: Call) -> Answer:
    """``PUT /webhook/:id``: a full replacement; the secret stays."""
    key = _require_manager(call)
    service = call.service
    wish = service.revision.requests.read_webhook(call.json_object())
    now_us = service.clock.now_us()
    webhook = service.webhooks.replace(call.route.param, wish, key.user_id, now_us)
    if webhook is None:
        raise Refusal(NOT_FOUND, invented.NOT_FOUND_TEXT)
    return answer_json(service.revision.answers.wrapped(webhook.spelled(with_secret=False)))


def delete_webhook(call: Call) -> Answer:
    """``DELETE /webhook/:id``."""
    key = _require_manager(call)
    if not call.service.webhooks.remove(call.route.param, key.user_id):
        raise Refusal(NOT_FOUND, invented.NOT_FOUND_TEXT)
    return Answer(204)


def _require_manager(call: Call) -> Key:
    key = call.require_key()
    if call.service.choices.webhook_management == "oauth":
        raise Refusal(UNAUTHORIZED, invented.OAUTH_ONLY_TEXT)
    return key
