"""What 2026-10 tells of keys, money, prices, webhooks and destinations; no envelope yet."""

from __future__ import annotations

from typing import Any

from mynth_dagster.simulator.accounts import Key
from mynth_dagster.simulator.defaults import format_price
from mynth_dagster.simulator.destinations import OwnStorage
from mynth_dagster.simulator.tasks import spell_instant
from mynth_dagster.simulator.v2026_10.catalogue import models
from mynth_dagster.simulator.webhooks import Webhook

__all__ = ["balance", "destination", "estimate", "me", "models", "webhook"]


def estimate(units: int, kind: str) -> dict[str, Any]:
    """A price before it is held."""
    return {"estimated_cost": format_price(units), "currency": "usd", "estimate_kind": kind}


def me(key: Key, now_us: int) -> dict[str, Any]:
    """The account, and the key in use with its scopes and its limit."""
    spelled = {
        "id": key.key_id,
        "name": key.name,
        "key_preview": f"{key.secret[:7]}...{key.secret[-3:]}",
        "scopes": list(key.scopes),
        "spending": _spell_spending(key, now_us),
    }
    return {"user_id": key.user_id, "auth": {"method": "api-key", "api_key": spelled}}


def balance(key: Key, now_us: int) -> dict[str, Any]:  # noqa: ARG001 - limits are told by `me`
    """The account's money."""
    account = key.account
    return {
        "balance": format_price(account.balance),
        "reserved": format_price(account.reserved),
        "available": format_price(account.available),
        "currency": "usd",
    }


def webhook(record: Webhook, *, is_new: bool) -> dict[str, Any]:
    """A registered webhook; secret and time are shown by its creation only."""
    wish = record.wish
    spelled: dict[str, Any] = {
        "id": record.webhook_id,
        "enabled": wish.enabled,
        "url": wish.url,
        "events": wish.events,
        "api_key_ids": None if wish.api_key_ids is None else list(wish.api_key_ids),
        "include_session_tasks": wish.include_session_tasks,
    }
    if is_new:
        spelled["secret"] = record.secret
        spelled["created_at"] = spell_instant(record.created_us)
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
        "created_at": spell_instant(record.created_us),
        "updated_at": spell_instant(record.updated_us),
    }


def _spell_spending(key: Key, now_us: int) -> dict[str, Any]:
    if key.limit is None:
        return {"mode": "unlimited"}
    used = key.used(now_us)
    return {
        "mode": "limited",
        "limit": format_price(key.limit),
        "period": key.period_word,
        "used": format_price(used),
        "remaining": format_price(max(key.limit - used, 0)),
    }
