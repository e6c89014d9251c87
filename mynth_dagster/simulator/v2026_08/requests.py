"""
Request bodies of API revision 2026-08: flat, with snake case for the newer fields.

Each reader refuses what is missing, of the wrong type, or beyond a documented limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.limits import (
    INTENT_TAG_KEY,
    LIMITS_BY_REVISION,
    OUTPUT_FORMATS,
    SIZE_RATIOS,
    SIZES,
)
from mynth_dagster.simulator import validation
from mynth_dagster.simulator.scenario import Quirks
from mynth_dagster.simulator.tasks import Inspection, Order, WebhookWish
from mynth_dagster.simulator.validation import invalid

LIMITS = LIMITS_BY_REVISION["2026-08"]
LEVELS_DEFAULT = ("sfw", "nsfw")
INPUT_ROLES = ("auto", "person", "garment", "pose", "source", "reference")
TASK_TYPES = ("image.generate", "image.rate", "image.alt", "image.review")
EVENTS = (
    *("all", "task.completed", "task.failed"),
    *(f"task.{kind}.{end}" for kind in TASK_TYPES for end in ("completed", "failed")),
)
GENERATE_FIELDS = frozenset(
    {
        *("prompt", "negative_prompt", "magic_prompt", "model", "size", "count", "output"),
        *("inputs", "webhook", "rating", "access", "metadata", "destination"),
    }
)


def read_generate(body: Mapping[str, Any], quirks: Quirks, *, strict: bool) -> Order:
    """
    The order in a body of ``POST /image/generate``.

    Raises:
        Refusal: A field is missing, of the wrong type, or beyond a limit.
    """
    if strict:
        validation.refuse_unknown(body, GENERATE_FIELDS)
    size, is_4k = _read_size(body.get("size", "auto"))
    output_format, quality = _read_output(body, quirks)
    levels, rates_custom = _read_rating(body)
    webhook_urls, silences = _read_webhook(body)
    return Order(
        prompt=_read_prompt(body, quirks),
        negative_prompt=_read_negative(body),
        model=validation.as_text(body.get("model", "auto"), "model", shortest=1),
        size=size,
        auto_size_by="mynth",
        is_4k=is_4k,
        count=validation.as_whole(
            body.get("count", 1), "count", low=LIMITS.count_min, high=LIMITS.count_max
        ),
        format=output_format,
        quality=quality,
        n_inputs=_read_inputs(body, strict=strict),
        enhancement="magic" if _read_magic(body) else "off",
        rating_levels=levels,
        rates_custom=rates_custom,
        wants_token=_read_access(body),
        destination=_read_destination(body),
        webhook_urls=webhook_urls,
        silences_registered=silences,
        intent_tag=_read_tag(body),
    )


def read_inspection(route: str, body: Mapping[str, Any], *, strict: bool) -> Inspection:
    """
    What a body of ``/image/rate``, ``/image/alt`` or ``/image/review`` asks.

    Raises:
        Refusal: As in `read_generate`.
    """
    url = validation.as_url(body.get("url"), "url", longest=LIMITS.input_url_max_chars)
    if route == "POST /image/rate":
        levels, _ = _read_scale(body, "")
        _close(body, ("url", "mode", "levels"), strict=strict)
        return Inspection("image.rate", (url,), levels)
    if route == "POST /image/alt":
        _close(body, ("url",), strict=strict)
        return Inspection("image.alt", (url,))
    _close(body, ("url", "effort"), strict=strict)
    validation.as_choice(body.get("effort", "high"), "effort", ("low", "high"))
    return Inspection("image.review", (url,))


def read_webhook(body: Mapping[str, Any]) -> WebhookWish:
    """The registered webhook in a body of ``POST /webhook`` or ``PUT /webhook/:id``."""
    events = body.get("events")
    if isinstance(events, list):
        for i, event in enumerate(validation.as_list(events, "events", fewest=1)):
            validation.as_choice(event, f"events[{i}]", EVENTS)
    elif events != "all":
        raise invalid("events", 'must be "all" or an array of event names')
    enabled = validation.as_flag(body.get("enabled"), "enabled")
    return WebhookWish(enabled, validation.as_url(body.get("url"), "url"), events)


def _read_prompt(body: Mapping[str, Any], quirks: Quirks) -> str:
    shortest = 0 if quirks.accepts_empty_prompt else LIMITS.prompt_min_chars
    return validation.as_text(
        body.get("prompt"), "prompt", shortest=shortest, longest=LIMITS.prompt_max_chars
    )


def _read_negative(body: Mapping[str, Any]) -> str | None:
    if "negative_prompt" not in body:
        return None
    longest = LIMITS.negative_prompt_max_chars
    return validation.as_text(
        body["negative_prompt"], "negative_prompt", shortest=1, longest=longest
    )


def _read_magic(body: Mapping[str, Any]) -> bool:
    if "magic_prompt" not in body:
        return False
    if body["magic_prompt"] is not True:
        raise invalid("magic_prompt", "must be true when given")
    return True


def _read_size(size: object) -> tuple[str, bool]:
    if isinstance(size, dict):
        return _read_size_object(size)
    word = validation.as_choice(size, "size", SIZES)
    return word.removesuffix("_4k"), word.endswith("_4k")


def _read_size_object(size: Mapping[str, Any]) -> tuple[str, bool]:
    if validation.as_choice(size.get("type"), "size.type", ("auto", "aspect_ratio")) == "auto":
        return "auto", False
    ratio = validation.as_choice(size.get("aspectRatio"), "size.aspectRatio", SIZE_RATIOS)
    scale = validation.as_choice(size.get("scale", "base"), "size.scale", ("base", "4k"))
    return ratio, scale == "4k"


def _read_output(body: Mapping[str, Any], quirks: Quirks) -> tuple[str, int]:
    if "output" not in body:
        return "webp", 80
    output = validation.as_object(body["output"], "output")
    if quirks.output_needs_both:
        for key in ("format", "quality"):
            if key not in output:
                raise invalid(f"output.{key}", "is required in output")
    word = validation.as_choice(output.get("format", "webp"), "output.format", OUTPUT_FORMATS)
    quality = validation.as_whole(
        output.get("quality", 80),
        "output.quality",
        low=LIMITS.quality_min or 0,
        high=LIMITS.quality_max,
    )
    return word, quality


def _read_inputs(body: Mapping[str, Any], *, strict: bool) -> int:
    inputs = validation.as_list(body.get("inputs", []), "inputs", most=LIMITS.inputs_max)
    for i, entry in enumerate(inputs):
        at = f"inputs[{i}]"
        if isinstance(entry, dict):
            _check_input(entry, at, strict=strict)
        else:
            validation.as_url(entry, at, longest=LIMITS.input_url_max_chars)
    return len(inputs)


def _check_input(entry: Mapping[str, Any], at: str, *, strict: bool) -> None:
    validation.as_choice(entry.get("type"), f"{at}.type", ("image",))
    validation.as_choice(entry.get("as", "auto"), f"{at}.as", INPUT_ROLES)
    source = validation.as_object(entry.get("source"), f"{at}.source")
    validation.as_choice(source.get("type"), f"{at}.source.type", ("url",))
    validation.as_url(source.get("url"), f"{at}.source.url")
    _close(entry, ("type", "as", "source"), at, strict=strict)


def _read_rating(body: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, bool]:
    if "rating" not in body:
        return None, False
    if body["rating"] is True:
        return LEVELS_DEFAULT, False
    return _read_scale(validation.as_object(body["rating"], "rating"), "rating.")


def _read_scale(rating: Mapping[str, Any], prefix: str) -> tuple[tuple[str, ...], bool]:
    mode = validation.as_choice(
        rating.get("mode", "nsfw_sfw"), f"{prefix}mode", ("nsfw_sfw", "custom")
    )
    if mode == "nsfw_sfw":
        return LEVELS_DEFAULT, False
    at = f"{prefix}levels"
    levels = validation.as_list(
        rating.get("levels"), at, fewest=LIMITS.rating_levels_min, most=LIMITS.rating_levels_max
    )
    return tuple(_read_level(level, f"{at}[{i}]") for i, level in enumerate(levels)), True


def _read_level(level: object, at: str) -> str:
    entry = validation.as_object(level, at)
    validation.as_text(
        entry.get("description"),
        f"{at}.description",
        shortest=LIMITS.rating_description_min_chars,
        longest=LIMITS.rating_description_max_chars,
    )
    return validation.as_text(
        entry.get("value"),
        f"{at}.value",
        shortest=LIMITS.rating_value_min_chars,
        longest=LIMITS.rating_value_max_chars,
    )


def _read_webhook(body: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    if "webhook" not in body:
        return (), False
    webhook = validation.as_object(body["webhook"], "webhook")
    if webhook.get("dashboard", False) is not False:
        raise invalid("webhook.dashboard", "must be false when given")
    custom = validation.as_list(
        webhook.get("custom", []), "webhook.custom", most=LIMITS.custom_webhooks_max
    )
    return tuple(_read_target(entry, i) for i, entry in enumerate(custom)), "dashboard" in webhook


def _read_target(entry: object, index: int) -> str:
    at = f"webhook.custom[{index}]"
    return validation.as_url(validation.as_object(entry, at).get("url"), f"{at}.url")


def _read_access(body: Mapping[str, Any]) -> bool:
    if "access" not in body:
        return True
    access = validation.as_object(body["access"], "access")
    token = validation.as_object(access.get("pat", {}), "access.pat")
    return validation.as_flag(token.get("enabled", True), "access.pat.enabled")


def _read_destination(body: Mapping[str, Any]) -> str | None:
    if "destination" not in body:
        return None
    slug = validation.as_text(
        body["destination"], "destination", shortest=1, longest=LIMITS.destination_max_chars
    )
    if not all(letter.isdigit() or "a" <= letter <= "z" or letter == "-" for letter in slug):
        raise invalid("destination", "must consist of a-z, 0-9 and -")
    return slug


def _read_tag(body: Mapping[str, Any]) -> str | None:
    if "metadata" not in body:
        return None
    metadata = validation.as_metadata(
        body["metadata"], "metadata", max_bytes=LIMITS.metadata_max_bytes
    )
    tag = metadata.get(INTENT_TAG_KEY)
    return tag if isinstance(tag, str) else None


def _close(body: Mapping[str, Any], known: tuple[str, ...], at: str = "", *, strict: bool) -> None:
    if strict:
        validation.refuse_unknown(body, known, at)
