"""
Request bodies of API revision 2026-04: a prompt may be an object, a rating is ``content_rating``.

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
from mynth_dagster.simulator.tasks import Enhancement, Inspection, Order, WebhookWish
from mynth_dagster.simulator.validation import invalid

LIMITS = LIMITS_BY_REVISION["2026-04"]
LEVELS_DEFAULT = ("sfw", "nsfw")
INPUT_ROLES = ("reference", "context", "init")
RATE_URLS_MAX = 10
EVENTS = (
    *("all", "task.completed", "task.failed"),
    *("task.image.generate.completed", "task.image.generate.failed"),
)
GENERATE_FIELDS = frozenset(
    {
        *("prompt", "model", "size", "count", "output", "inputs", "webhook"),
        *("content_rating", "access", "metadata"),
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
    positive, negative, enhancement = _read_prompt(body.get("prompt"), quirks, strict=strict)
    size, is_4k, auto_size_by = _read_size(body.get("size", "auto"))
    output_format, quality = _read_output(body, quirks)
    levels, rates_custom = _read_content_rating(body)
    webhook_urls, silences = _read_webhook(body)
    return Order(
        prompt=positive,
        negative_prompt=negative,
        model=validation.as_text(body.get("model", "auto"), "model", shortest=1),
        size=size,
        auto_size_by=auto_size_by,
        is_4k=is_4k,
        count=validation.as_whole(
            body.get("count", 1), "count", low=LIMITS.count_min, high=LIMITS.count_max
        ),
        format=output_format,
        quality=quality,
        n_inputs=_read_inputs(body, strict=strict),
        enhancement=enhancement,
        rating_levels=levels,
        rates_custom=rates_custom,
        wants_token=_read_access(body),
        destination=None,
        webhook_urls=webhook_urls,
        silences_registered=silences,
        intent_tag=_read_tag(body),
    )


def read_inspection(route: str, body: Mapping[str, Any], *, strict: bool) -> Inspection:
    """
    What a body of ``/image/rate`` asks; the one such route of this revision.

    Raises:
        Refusal: As in `read_generate`.
    """
    assert route == "POST /image/rate"
    if strict:
        validation.refuse_unknown(body, ("urls", "levels"))
    urls = validation.as_list(body.get("urls"), "urls", fewest=1, most=RATE_URLS_MAX)
    levels = _read_levels(body["levels"], "levels") if "levels" in body else LEVELS_DEFAULT
    checked = tuple(validation.as_url(url, f"urls[{i}]") for i, url in enumerate(urls))
    return Inspection("image.rate", checked, levels)


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


def _read_prompt(
    prompt: object, quirks: Quirks, *, strict: bool
) -> tuple[str, str | None, Enhancement]:
    shortest = 0 if quirks.accepts_empty_prompt else LIMITS.prompt_min_chars
    longest = LIMITS.prompt_max_chars
    if not isinstance(prompt, dict):
        text = validation.as_text(prompt, "prompt", shortest=shortest, longest=longest)
        return text, None, "off"
    if strict:
        validation.refuse_unknown(prompt, ("positive", "negative", "enhance"), "prompt")
    positive = validation.as_text(
        prompt.get("positive"), "prompt.positive", shortest=shortest, longest=longest
    )
    return positive, _read_negative(prompt), _read_enhance(prompt)


def _read_negative(prompt: Mapping[str, Any]) -> str | None:
    if "negative" not in prompt:
        return None
    longest = LIMITS.negative_prompt_max_chars
    return validation.as_text(prompt["negative"], "prompt.negative", longest=longest)


def _read_enhance(prompt: Mapping[str, Any]) -> Enhancement:
    word = prompt.get("enhance", False)
    if word is False:
        return "off"
    words = ("prefer_magic", "prefer_native")
    return "magic" if validation.as_choice(word, "prompt.enhance", words) == words[0] else "native"


def _read_size(size: object) -> tuple[str, bool, str]:
    if isinstance(size, dict):
        return _read_size_object(size)
    word = validation.as_choice(size, "size", SIZES)
    return word.removesuffix("_4k"), word.endswith("_4k"), "mynth"


def _read_size_object(size: Mapping[str, Any]) -> tuple[str, bool, str]:
    if validation.as_choice(size.get("type"), "size.type", ("auto", "aspect_ratio")) == "auto":
        by = validation.as_choice(size.get("prefer", "mynth"), "size.prefer", ("mynth", "native"))
        return "auto", False, by
    ratio = validation.as_choice(size.get("aspectRatio"), "size.aspectRatio", SIZE_RATIOS)
    if "scale" in size:
        validation.as_choice(size["scale"], "size.scale", ("4k",))
    return ratio, "scale" in size, "mynth"


def _read_output(body: Mapping[str, Any], quirks: Quirks) -> tuple[str, int]:
    output = validation.as_object(body.get("output", {}), "output")
    if quirks.output_needs_both and "output" in body:
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
        if isinstance(entry, dict):
            _check_input(entry, f"inputs[{i}]", strict=strict)
        else:
            validation.as_url(entry, f"inputs[{i}]", longest=LIMITS.input_url_max_chars)
    return len(inputs)


def _check_input(entry: Mapping[str, Any], at: str, *, strict: bool) -> None:
    validation.as_choice(entry.get("type"), f"{at}.type", ("image",))
    validation.as_choice(entry.get("role"), f"{at}.role", INPUT_ROLES)
    source = validation.as_object(entry.get("source"), f"{at}.source")
    validation.as_choice(source.get("type"), f"{at}.source.type", ("url",))
    validation.as_url(source.get("url"), f"{at}.source.url")
    if strict:
        validation.refuse_unknown(entry, ("type", "role", "source"), at)


def _read_content_rating(body: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, bool]:
    rating = validation.as_object(body.get("content_rating", {}), "content_rating")
    if not validation.as_flag(rating.get("enabled", False), "content_rating.enabled"):
        return None, False
    if "levels" not in rating:
        return LEVELS_DEFAULT, False
    return _read_levels(rating["levels"], "content_rating.levels"), True


def _read_levels(levels: object, at: str) -> tuple[str, ...]:
    entries = validation.as_list(
        levels, at, fewest=LIMITS.rating_levels_min, most=LIMITS.rating_levels_max
    )
    return tuple(_read_level(entry, f"{at}[{i}]") for i, entry in enumerate(entries))


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
    webhook = validation.as_object(body.get("webhook", {}), "webhook")
    enabled = validation.as_flag(webhook.get("enabled", True), "webhook.enabled")
    custom = validation.as_list(
        webhook.get("custom", []), "webhook.custom", most=LIMITS.custom_webhooks_max
    )
    return tuple(_read_target(entry, i) for i, entry in enumerate(custom)), not enabled


def _read_target(entry: object, index: int) -> str:
    at = f"webhook.custom[{index}]"
    return validation.as_url(validation.as_object(entry, at).get("url"), f"{at}.url")


def _read_access(body: Mapping[str, Any]) -> bool:
    access = validation.as_object(body.get("access", {}), "access")
    token = validation.as_object(access.get("pat", {}), "access.pat")
    return validation.as_flag(token.get("enabled", True), "access.pat.enabled")


def _read_tag(body: Mapping[str, Any]) -> str | None:
    if "metadata" not in body:
        return None
    metadata = validation.as_metadata(
        body["metadata"], "metadata", max_bytes=LIMITS.metadata_max_bytes
    )
    tag = metadata.get(INTENT_TAG_KEY)
    return tag if isinstance(tag, str) else None
