"""Tolerant readers of accounts, prices, webhooks and uploads, in every revision's spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.models.task import (
    Account,
    Balance,
    CatalogModel,
    Estimate,
    ModelInputs,
    RegisteredWebhook,
    Spending,
)
from mynth_dagster.wire.cells import (
    cost_of,
    entries_of,
    first,
    mapping,
    missing,
    money_of,
    text_of,
    unwrapped,
)

IMAGE_MODEL = "image"
FROM_TEXT, FROM_IMAGES = "txt->img", "img->img"


def decode_estimate(operation: str, body: Any, *, revision: str) -> Estimate:
    """`POST /image/generate/estimate`."""
    payload = mapping(unwrapped(body))
    units = cost_of(first(payload, "estimated_cost", "estimatedCost"))
    if units is None:
        raise missing(operation, "estimated cost", body, revision)
    kind = first(payload, "estimate_kind", "estimateKind")
    return Estimate(units=units, exact=kind == "exact")


def decode_catalog(operation: str, body: Any, *, revision: str) -> dict[str, CatalogModel]:
    """`GET /models`: the models that make images, by id; a revision may list others beside them."""
    entries = unwrapped(body)
    if not isinstance(entries, list):
        raise missing(operation, "list of models", body, revision)
    models = [_catalog_model(mapping(entry)) for entry in entries if _is_image_model(entry)]
    return {model.model_id: model for model in models if model.model_id}


def decode_destinations(operation: str, body: Any, *, revision: str) -> frozenset[str]:
    """`GET /destinations`: their names."""
    entries = unwrapped(body)
    if not isinstance(entries, list):
        raise missing(operation, "list of destinations", body, revision)
    names = (text_of(mapping(entry).get("name")) for entry in entries)
    return frozenset(name for name in names if name)


def decode_account(operation: str, body: Any, *, revision: str) -> Account:
    """`GET /me`."""
    payload = mapping(unwrapped(body))
    user_id = text_of(first(payload, "user_id", "userId"))
    if user_id is None:
        raise missing(operation, "user id", body, revision)
    key = mapping(first(mapping(payload.get("auth")), "api_key", "apiKey"))
    scopes = key.get("scopes")
    return Account(
        user_id=user_id,
        key_id=text_of(key.get("id")),
        scopes=frozenset(map(str, scopes)) if isinstance(scopes, list) else None,
        spending=_spending(mapping(key.get("spending"))),
    )


def _spending(told: Mapping[str, Any]) -> Spending | None:
    if told.get("mode") == "unlimited":
        return Spending()
    limit_units = money_of(told.get("limit"))
    if limit_units is None:
        return None
    return Spending(
        limit_units=limit_units,
        period=text_of(told.get("period")),
        used_units=money_of(told.get("used")),
        remaining_units=money_of(told.get("remaining")),
    )


def decode_balance(operation: str, body: Any, *, revision: str) -> Balance:
    """`GET /balance`."""
    payload = mapping(unwrapped(body))
    amounts = [money_of(payload.get(name)) for name in ("balance", "reserved", "available")]
    if any(amount is None for amount in amounts):
        raise missing(operation, "balance, reserved or available", body, revision)
    balance, reserved, available = (amount or 0 for amount in amounts)
    return Balance(balance, reserved, available)


def decode_webhook(operation: str, body: Any, *, revision: str) -> RegisteredWebhook:
    """The answer to the creation or the replacement of a webhook."""
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


def _is_image_model(entry: Any) -> bool:
    """Revisions without a type list image models only."""
    return mapping(entry).get("type") in (None, IMAGE_MODEL)


def _catalog_model(entry: Mapping[str, Any]) -> CatalogModel:
    pricing = mapping(entry.get("pricing"))
    per_image = mapping(first(pricing, "per_image", "perImage"))
    modes = mapping(entry.get("modes"))
    tells_modes = FROM_TEXT in modes or FROM_IMAGES in modes
    base_units, base_4k_units = cost_of(per_image.get("base")), cost_of(per_image.get("4k"))
    # Where modes are told, a price for 4k is how Mynth says that 4k is served.
    lacks_4k = tells_modes and base_units is not None and base_4k_units is None
    return CatalogModel(
        model_id=text_of(entry.get("id")) or "",
        display_name=text_of(first(entry, "display_name", "displayName")),
        base_units=base_units,
        base_4k_units=base_4k_units,
        per_input_units=cost_of(first(pricing, "per_input", "perInput")),
        has_4k=False if lacks_4k else (True if base_4k_units is not None else None),
        takes_text=FROM_TEXT in modes if tells_modes else None,
        inputs=_model_inputs(modes) if tells_modes else None,
    )


def _model_inputs(modes: Mapping[str, Any]) -> ModelInputs:
    """How many images the model takes; rules are added up, unless the mode tells a total."""
    if FROM_IMAGES not in modes:
        return ModelInputs(at_most=0)
    inputs = mapping(mapping(modes[FROM_IMAGES]).get("inputs"))
    rules = [mapping(rule) for rule in entries_of(inputs.get("rules"))]
    total = _whole(inputs.get("max_total"))
    if total is None and rules:
        each = [_whole(rule.get("max")) for rule in rules]
        total = None if None in each else sum(most or 0 for most in each)
    return ModelInputs(
        at_least=sum(_whole(rule.get("min")) or 0 for rule in rules),
        at_most=total,
    )


def _whole(value: Any) -> int | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_whole else None
