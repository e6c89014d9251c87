"""Tolerant readers of accounts, prices, webhooks and uploads, in every revision's spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.models.task import (
    Account,
    Balance,
    CatalogModel,
    Estimate,
    RegisteredWebhook,
)
from mynth_dagster.wire.cells import first, mapping, missing, money_of, text_of, unwrapped


def decode_estimate(operation: str, body: Any, *, revision: str) -> Estimate:
    """`POST /image/generate/estimate`."""
    payload = mapping(unwrapped(body))
    units = money_of(first(payload, "estimated_cost", "estimatedCost"))
    if units is None:
        raise missing(operation, "estimated cost", body, revision)
    kind = first(payload, "estimate_kind", "estimateKind")
    return Estimate(units=units, exact=kind == "exact")


def decode_catalog(operation: str, body: Any, *, revision: str) -> dict[str, CatalogModel]:
    """`GET /models`, by model id."""
    entries = unwrapped(body)
    if not isinstance(entries, list):
        raise missing(operation, "list of models", body, revision)
    models = [_catalog_model(mapping(entry)) for entry in entries]
    return {model.model_id: model for model in models if model.model_id}


def decode_account(operation: str, body: Any, *, revision: str) -> Account:
    """`GET /me`."""
    payload = mapping(unwrapped(body))
    user_id = text_of(first(payload, "user_id", "userId"))
    if user_id is None:
        raise missing(operation, "user id", body, revision)
    key = mapping(first(mapping(payload.get("auth")), "api_key", "apiKey"))
    return Account(user_id=user_id, key_id=text_of(key.get("id")))


def decode_balance(operation: str, body: Any, *, revision: str) -> Balance:
    """`GET /balance`."""
    payload = mapping(unwrapped(body))
    amounts = [money_of(payload.get(name)) for name in ("balance", "reserved", "available")]
    if any(amount is None for amount in amounts):
        raise missing(operation, "balance, reserved or available", body, revision)
    balance, reserved, available = (amount or 0 for amount in amounts)
    return Balance(balance, reserved, available)


def decode_webhook(operation: str, body: Any, *, revision: str) -> RegisteredWebhook:
    """`POST /webhook` and `PUT /webhook/:id`."""
    payload = mapping(unwrapped(body))
    webhook_id = text_of(payload.get("id"))
    if webhook_id is None:
        raise missing(operation, "webhook id", body, revision)
    return RegisteredWebhook(webhook_id, text_of(payload.get("secret")))


def decode_upload(operation: str, body: Any, *, revision: str) -> list[str]:
    """`POST /image/upload`: one URL per file, in order."""
    urls = mapping(unwrapped(body)).get("urls")
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise missing(operation, "list of urls", body, revision)
    return urls


def _catalog_model(entry: Mapping[str, Any]) -> CatalogModel:
    pricing = mapping(entry.get("pricing"))
    per_image = mapping(first(pricing, "per_image", "perImage"))
    return CatalogModel(
        model_id=text_of(entry.get("id")) or "",
        display_name=text_of(first(entry, "display_name", "displayName")),
        base_units=money_of(per_image.get("base")),
        base_4k_units=money_of(per_image.get("4k")),
        per_input_units=money_of(first(pricing, "per_input", "perInput")),
    )
