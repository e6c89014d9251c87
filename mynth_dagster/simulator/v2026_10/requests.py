"""
Request bodies of API revision 2026-10: snake case throughout, and nothing unknown anywhere.

Each reader tells every field that is missing, unknown, of the wrong type, or beyond a limit.
Unknown fields are refused whatever the scenario says of strictness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.limits import AUTO_MODEL, LIMITS_BY_REVISION, OUTPUT_FORMATS, SIZE_RATIOS, SIZES
from mynth_dagster.simulator import validation
from mynth_dagster.simulator.scenario import Quirks
from mynth_dagster.simulator.tasks import Inspection, Order, Rework
from mynth_dagster.simulator.v2026_10.options import FIELDS, read_options
from mynth_dagster.simulator.v2026_10.webhook_requests import read_webhook
from mynth_dagster.simulator.validation import REQUIRED, UNKNOWN, Form, Path

__all__ = ["read_generate", "read_inspection", "read_rework", "read_webhook"]

LIMITS = LIMITS_BY_REVISION["2026-10"]
LEVELS_DEFAULT = ("sfw", "nsfw")
GENERATE_FIELDS = (
    *("prompt", "negative_prompt", "magic_prompt", "model", "size", "count", "inputs", "rating"),
    *FIELDS,
)
TRANSPARENT_FORMATS = ("png", "webp")
EFFORTS = ("low", "high")
FACTORS = {"2x": 2, "4x": 4}


def read_generate(
    body: Mapping[str, Any],
    quirks: Quirks,
    *,
    strict: bool,  # noqa: ARG001 - always
) -> Order:
    """
    The order in a body of ``POST /image/generate``.

    Model ``auto`` ignores inputs and size, so an order for it has none.

    Raises:
        Refusal: With an issue for each field that is wrong.
    """
    form = Form(body)
    form.close(GENERATE_FIELDS)
    model = form.take("model", validation.as_text, AUTO_MODEL, shortest=1)
    size, is_4k = _read_size(form)
    n_inputs = len(form.take_each("inputs", _input_reader(form), most=LIMITS.inputs_max))
    levels, rates_custom = _read_rating(form)
    options = read_options(form, OUTPUT_FORMATS)
    is_auto = model == AUTO_MODEL
    order = Order(
        prompt=_read_prompt(form, quirks),
        negative_prompt=_read_negative(form),
        model=model,
        size="auto" if is_auto else size,
        auto_size_by="mynth",
        is_4k=is_4k and not is_auto,
        count=form.take(
            "count", validation.as_whole, 1, low=LIMITS.count_min, high=LIMITS.count_max
        ),
        format=options.format,
        quality=None,
        n_inputs=0 if is_auto else n_inputs,
        enhancement="magic"
        if form.take("magic_prompt", validation.as_flag, fallback=False)
        else "off",
        rating_levels=levels,
        rates_custom=rates_custom,
        wants_token=options.wants_token,
        destination=options.destination,
        webhook_urls=options.webhook_urls,
        silences_registered=options.silences_registered,
        intent_tag=options.intent_tag,
    )
    form.finish()
    return order


def read_inspection(
    route: str,
    body: Mapping[str, Any],
    *,
    strict: bool,  # noqa: ARG001 - always
) -> Inspection:
    """
    What a body of ``/image/rate``, ``/image/alt`` or ``/image/review`` asks.

    Raises:
        Refusal: As in `read_generate`.
    """
    form = Form(body)
    url = form.take("url", validation.as_web_url, "", required=True)
    levels: tuple[str, ...] = ()
    effort = None
    if route == "POST /image/rate":
        form.close(("url", "mode", "levels"))
        levels, _ = _read_scale(form)
    elif route == "POST /image/alt":
        form.close(("url",))
    else:
        form.close(("url", "effort"))
        effort = form.take("effort", validation.as_choice, "high", allowed=EFFORTS)
    form.finish()
    return Inspection(f"image.{route.rpartition('/')[2]}", (url,), levels, effort)  # type: ignore[arg-type]


def read_rework(route: str, body: Mapping[str, Any]) -> Rework:
    """
    What a body of ``/image/upscale`` or ``/image/remove-background`` asks.

    Raises:
        Refusal: As in `read_generate`.
    """
    form = Form(body)
    is_upscale = route == "POST /image/upscale"
    form.close(("url", "size", "effort", *FIELDS) if is_upscale else ("url", *FIELDS))
    options = read_options(form, OUTPUT_FORMATS if is_upscale else TRANSPARENT_FORMATS)
    rework = Rework(
        type="image.upscale" if is_upscale else "image.remove_background",
        url=form.take("url", validation.as_web_url, "", required=True),
        factor=_read_factor(form) if is_upscale else 1,
        effort=form.take("effort", validation.as_choice, "low", required=True, allowed=EFFORTS)
        if is_upscale
        else None,
        format=options.format,
        wants_token=options.wants_token,
        destination=options.destination,
        webhook_urls=options.webhook_urls,
        silences_registered=options.silences_registered,
        intent_tag=options.intent_tag,
    )
    form.finish()
    return rework


def _read_prompt(form: Form, quirks: Quirks) -> str:
    shortest = 0 if quirks.accepts_empty_prompt else LIMITS.prompt_min_chars
    longest = LIMITS.prompt_max_chars
    return form.take(
        "prompt", validation.as_text, "", required=True, shortest=shortest, longest=longest
    )


def _read_negative(form: Form) -> str | None:
    if "negative_prompt" not in form:
        return None
    longest = LIMITS.negative_prompt_max_chars
    return form.take("negative_prompt", validation.as_text, "", longest=longest)


def _read_size(form: Form) -> tuple[str, bool]:
    if isinstance(form.values.get("size"), dict):
        size = form.inner("size")
        assert size is not None
        return _read_size_object(size)
    word = form.take("size", validation.as_choice, "auto", allowed=SIZES)
    return word.removesuffix("_4k"), word.endswith("_4k")


def _read_size_object(size: Form) -> tuple[str, bool]:
    kinds = ("auto", "aspect_ratio")
    if size.take("type", validation.as_choice, "auto", required=True, allowed=kinds) == "auto":
        size.close(("type",))
        return "auto", False
    size.close(("type", "aspect_ratio", "scale"))
    ratio = size.take(
        "aspect_ratio", validation.as_choice, "1:1", required=True, allowed=SIZE_RATIOS
    )
    return ratio, size.take("scale", validation.as_choice, "base", allowed=("base", "4k")) == "4k"


def _read_factor(form: Form) -> int:
    if not isinstance(form.values.get("size"), dict):
        word = form.take("size", validation.as_choice, "2x", required=True, allowed=tuple(FACTORS))
        return FACTORS[word]
    size = form.inner("size")
    assert size is not None
    size.close(("type", "factor"))
    size.take("type", validation.as_choice, "", required=True, allowed=("scale",))
    return size.take("factor", validation.as_number, 2, required=True, allowed=(2, 4))


def _input_reader(form: Form) -> Any:
    def read(steps: Path, entry: object) -> None:
        if not isinstance(entry, dict):
            form.check_at(steps, entry, validation.as_web_url, "")
            return
        item = form.form_at(steps, entry)
        assert item is not None
        item.close(("type", "as", "source"))
        item.take("type", validation.as_choice, "", required=True, allowed=("image",))
        item.take("as", validation.as_choice, "", allowed=LIMITS.input_roles)
        source = item.inner("source", required=True)
        if source is not None:
            source.close(("type", "url"))
            source.take("type", validation.as_choice, "", required=True, allowed=("url",))
            source.take("url", validation.as_web_url, "", required=True)

    return read


def _read_rating(form: Form) -> tuple[tuple[str, ...] | None, bool]:
    if "rating" not in form:
        return None, False
    if form.values["rating"] is True:
        return LEVELS_DEFAULT, False
    rating = form.inner("rating")
    if rating is None:
        return None, False
    rating.close(("mode", "levels"))
    return _read_scale(rating)


def _read_scale(form: Form) -> tuple[tuple[str, ...], bool]:
    mode = form.take("mode", validation.as_choice, "nsfw_sfw", allowed=("nsfw_sfw", "custom"))
    if mode == "nsfw_sfw":
        if "levels" in form:
            form.complain(("levels",), UNKNOWN)
        return LEVELS_DEFAULT, False
    if "levels" not in form:
        form.complain(("levels",), REQUIRED)

    def read_level(steps: Path, entry: object) -> str:
        level = form.form_at(steps, entry)
        return "" if level is None else _read_level(level)

    fewest, most = LIMITS.rating_levels_min, LIMITS.rating_levels_max
    return tuple(form.take_each("levels", read_level, fewest=fewest, most=most)), True


def _read_level(level: Form) -> str:
    level.close(("value", "description"))
    level.take(
        "description",
        validation.as_text,
        "",
        required=True,
        shortest=LIMITS.rating_description_min_chars,
        longest=LIMITS.rating_description_max_chars,
    )
    return level.take(
        "value",
        validation.as_text,
        "",
        required=True,
        shortest=LIMITS.rating_value_min_chars,
        longest=LIMITS.rating_value_max_chars,
    )
