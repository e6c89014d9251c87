"""
The public catalogue of 2026-10: image and video models, what each can do, and prices.

Modes and 4k prices of image models follow from the table of capabilities. Which inputs a model
takes, and how many, is invented, as are most prices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mynth_dagster.capabilities import INPUTS, Model
from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.completion import PriceBook
from mynth_dagster.simulator.defaults import format_price, units_of


class VideoModel(NamedTuple):
    """A video model: listed, though this simulator makes no videos."""

    model_id: str
    label: str
    kinds: tuple[str, ...]


VIDEO_MODELS = (
    VideoModel("bytedance/seedance-2.0-mini", "Seedance 2.0 Mini", ("first_frame", "last_frame")),
    VideoModel(
        "google/gemini-omni-flash-1.1", "Gemini Omni Flash 1.1", ("first_frame", "last_frame")
    ),
    VideoModel("prunaai/p-video", "P-Video", ("first_frame",)),
    VideoModel("xai/grok-imagine-video-1.5", "Grok Imagine Video 1.5", ("first_frame",)),
)


def models(prices: PriceBook) -> list[dict[str, Any]]:
    """All entries, images first; ``auto`` only where the scenario lists it."""
    listed = [_spell_image_model(model, prices) for model in prices.models.values()]
    if prices.lists_auto:
        listed.insert(0, _spell_auto(prices))
    return [*listed, *map(_spell_video_model, VIDEO_MODELS)]


def _spell_image_model(model: Model, prices: PriceBook) -> dict[str, Any]:
    modes: dict[str, Any] = {"txt->img": {}}
    if model.can(INPUTS):
        modes["img->img"] = {"inputs": _spell_inputs(model.model_id)}
    return {
        "id": model.model_id,
        "display_name": model.label,
        "type": "image",
        "modes": modes,
        "pricing": _spell_price(model, prices),
    }


def _spell_inputs(model_id: str) -> dict[str, Any]:
    split = defaults.SPLIT_INPUTS_MAX.get(model_id)
    if split is None:
        most = defaults.INPUTS_MAX
        return {"rules": [{"type": "image", "min": 1, "max": most}], "max_total": most}
    kinds = zip(("source", "reference"), split, strict=True)
    return {"rules": [{"type": "image", "kind": kind, "max": most} for kind, most in kinds]}


def _spell_price(model: Model, prices: PriceBook) -> dict[str, Any] | None:
    if not model.is_known:
        return None
    price = prices.of(model.model_id)
    per_image = {"base": format_price(price.base)}
    if price.four_k is not None:
        per_image["4k"] = format_price(price.four_k)
    spelled: dict[str, Any] = {"per_image": per_image}
    if price.per_input is not None:
        spelled["per_input"] = format_price(price.per_input)
    return spelled


def _spell_auto(prices: PriceBook) -> dict[str, Any]:
    return {
        "id": AUTO_MODEL,
        "display_name": "Auto",
        "type": "image",
        "modes": {"txt->img": {}},
        "pricing": {"per_image": {"base": format_price(prices.auto_ceiling)}},
    }


def _spell_video_model(model: VideoModel) -> dict[str, Any]:
    rules = [{"type": "image", "kind": kind, "max": 1} for kind in model.kinds]
    return {
        "id": model.model_id,
        "display_name": model.label,
        "type": "video",
        "modes": {
            "txt->vid": {},
            "img->vid": {"inputs": {"rules": rules, "max_total": len(rules)}},
        },
        "pricing": _spell_video_price(model.model_id),
    }


def _spell_video_price(model_id: str) -> dict[str, Any] | None:
    price = defaults.VIDEO_PRICES_USD.get(model_id)
    if price is None:
        return None
    tiers, audio = price
    spelled: dict[str, Any] = {
        "per_second": {tier: format_price(units_of(usd)) for tier, usd in tiers.items()}
    }
    if audio is not None:
        spelled["audio"] = {"per_second": format_price(units_of(audio))}
    return spelled
