"""What revision 2026-08 tells of models, prices, keys, money and webhooks; no envelope yet."""

from __future__ import annotations

from typing import Any

from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.simulator.accounts import Key
from mynth_dagster.simulator.completion import ModelPrice, PriceBook
from mynth_dagster.simulator.defaults import format_price
from mynth_dagster.simulator.destinations import OwnStorage
from mynth_dagster.simulator.tasks import spell_instant
from mynth_dagster.simulator.v2026_04.account import webhook

__all__ = ["balance", "destination", "estimate", "me", "models", "webhook"]


def models(prices: PriceBook) -> list[dict[str, Any]]:
    """The catalog; ``auto`` only where the scenario lists it."""
    auto = ModelPrice(prices.auto_ceiling, None, None)
    listed = [{"id": AUTO_MODEL, "displayName": "Auto", "pricing": _spell_price(auto)}]
    return (listed if prices.lists_auto else []) + [
        {
            "id": model_id,
            "displayName": model.label,
            "pricing": _spell_price(prices.of(model_id)),
        }
        for model_id, model in prices.models.items()
    ]


def estimate(units: int, kind: str) -> dict[str, Any]:
    """A price before it is held."""
    return {"estimatedCost": format_price(units), "currency": "usd", "estimateKind": kind}


def me(key: Key, now_us: int) -> dict[str, Any]:  # noqa: ARG001 - a later revision tells its limit
    """The account and the key in use."""
    spelled = {"id": key.key_id, "name": key.name, "keyPreview": key.preview}
    return {"userId": key.user_id, "auth": {"method": "api-key", "apiKey": spelled}}


def balance(key: Key, now_us: int) -> dict[str, Any]:
    """The account's money, and the key's limit if it has one."""
    account = key.account
    spelled: dict[str, Any] = {
        "balance": format_price(account.balance),
        "reserved": format_price(account.reserved),
        "available": format_price(account.available),
        "currency": "usd",
    }
    if key.limit is not None:
        used = key.used(now_us)
        spelled["apiKey"] = {
            "spendingLimit": format_price(key.limit),
            "spendingLimitPeriod": key.period_word,
            "usedInPeriod": format_price(used),
            "remainingInPeriod": format_price(max(key.limit - used, 0)),
        }
    return spelled


def destination(record: OwnStorage) -> dict[str, Any]:
    """A user's own storage; its secret is never shown."""
    config = {"path_template": record.wish.path_template}
    if record.wish.url_template is not None:
        config["url_template"] = record.wish.url_template
    return {
        "id": record.destination_id,
        "name": record.wish.name,
        "provider": dict(record.wish.provider),
        "config": config,
        "createdAt": spell_instant(record.created_us),
        "updatedAt": spell_instant(record.updated_us),
    }


def _spell_price(price: ModelPrice) -> dict[str, Any]:
    per_image = {"base": format_price(price.base)}
    if price.four_k is not None:
        per_image["4k"] = format_price(price.four_k)
    spelled: dict[str, Any] = {"perImage": per_image}
    if price.per_input is not None:
        spelled["perInput"] = format_price(price.per_input)
    return spelled
