"""
What will become of a request: its model, its pixels, and whether it fails.

Drawn once, when the task is made, from the seed and the request alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from mynth_dagster.capabilities import MODELS_BY_REVISION, Model
from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.defaults import units_of
from mynth_dagster.simulator.scenario import FailureRule, Quirks
from mynth_dagster.simulator.tasks import Inspection, Order, Outcome, Rework, Task, draw, draw_whole
from mynth_dagster.simulator.validation import RESTRICTED, Reason, Refusal, invalid

if TYPE_CHECKING:
    from mynth_dagster.simulator.destinations import DestinationStore
    from mynth_dagster.simulator.scenario import Scenario


_UNSUPPORTED = "CAPABILITY_NOT_SUPPORTED"
_TOO_LARGE = "OUTPUT_TOO_LARGE"
_REVISIONS_WITH_MODES = frozenset({"2026-10"})  # their catalogue tells how many inputs
_UPSCALED_MAX_SIDE_PX = 4096  # documented


class Fates:
    """Draws outcomes for one scenario, and remembers how often a rule has seen a prompt."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._choices = scenario.effective_quirks
        self._models = MODELS_BY_REVISION[scenario.revision]
        self._seen: Counter[tuple[int, int]] = Counter()
        self._pixels = {**defaults.PIXELS, **scenario.pixels}

    def change(self, scenario: Scenario) -> Fates:
        """Fates for a changed scenario; what equal failure rules have seen is not forgotten."""
        changed = Fates(scenario)
        if scenario.failures == self._scenario.failures:
            changed._seen = self._seen
        return changed

    def check_model(self, order: Order) -> None:
        """
        Whether the model exists and can do what is asked.

        Raises:
            Refusal: It does not, or the scenario refuses inputs to a model without them.
        """
        if order.model == AUTO_MODEL:
            return
        model = self._models.get(order.model)
        if model is None:
            raise invalid("model", "is not a known model")
        if self._lacks_inputs(order, model) and self._choices.unsupported_inputs == "refuse":
            raise invalid("inputs", "are not supported by this model")

    def is_priced_4k(self, order: Order) -> bool:
        """Whether 4k is asked for and delivered; a model without 4k falls back."""
        return order.is_4k and (order.model == AUTO_MODEL or self._models[order.model].can("4k"))

    def find_rule(self, order: Order | Inspection | Rework) -> FailureRule | None:
        """
        The failure rule that applies to this request, the next time it is seen.

        Raises:
            Refusal: The rule refuses the request itself.
        """
        for position, rule in enumerate(self._scenario.failures):
            if self._applies(position, rule, order):
                if rule.kind == "refused":
                    code = self._code_of(rule).lower()
                    raise Refusal(Reason(code, RESTRICTED.status), defaults.RESTRICTED_TEXT)
                return rule
        return None

    def draw(self, order: Order, rule: FailureRule | None) -> Outcome:
        """The outcome of an order under a failure rule."""
        model = self._pick_model(order)
        pixels = self._pick_pixels(order, model)
        file_format = order.format or self._format_of(model.model_id)
        good = Outcome(model.model_id, pixels, format=file_format)
        code = self._lacking(order, model)
        if code is not None:
            return replace(good, code=code, fails_whole=True)
        if rule is None:
            return good
        return _failed(rule, order, good, self._code_of(rule))

    def draw_inspection(self, rule: FailureRule | None) -> Outcome:
        """The outcome of a look at an image; it comes off wholly or not at all."""
        return self._of_one(Outcome(), rule)

    def draw_rework(self, rework: Rework, rule: FailureRule | None) -> Outcome:
        """The outcome of a rework of one image; an upscale may be too large."""
        width, height = (
            rework.factor * side for side in defaults.read_pixels(rework.source_pixels)
        )
        file_format = rework.format or self._format_of(rework.type)
        good = Outcome(pixels=f"{width}x{height}", format=file_format)
        if rework.type == "image.upscale" and max(width, height) > _UPSCALED_MAX_SIDE_PX:
            return replace(good, code=_TOO_LARGE, fails_whole=True)
        return self._of_one(good, rule)

    def draw_latency_s(self, *parts: object) -> float:
        """How long a task takes, seconds."""
        return self._scenario.latency.at(draw(self._scenario.seed, "latency", *parts))

    def _of_one(self, good: Outcome, rule: FailureRule | None) -> Outcome:
        if rule is None:
            return good
        if rule.kind == "stuck":
            return replace(good, is_stuck=True)
        return replace(good, code=self._code_of(rule), fails_whole=True)

    def _code_of(self, rule: FailureRule) -> str:
        return rule.error_code(defaults.FAILURE_CODES[self._scenario.revision])

    def _format_of(self, model_id: str) -> str:
        return self._scenario.provider_formats.get(model_id) or defaults.provider_format(model_id)

    def _applies(
        self, position: int, rule: FailureRule, order: Order | Inspection | Rework
    ) -> bool:
        if not _matches(rule, order):
            return False
        if not rule.counts:
            return rule.share > 0
        subject = _subject(order)
        seen = (position, draw_whole(0, *subject))
        self._seen[seen] += 1
        nth = self._seen[seen]
        if rule.first is not None and nth > rule.first:
            return False
        seed = self._scenario.seed
        return draw(seed, "failure", position, *subject, nth) < rule.share

    def _pick_model(self, order: Order) -> Model:
        if order.model != AUTO_MODEL:
            return self._models[order.model]
        able = [
            model
            for model in map(self._models.__getitem__, defaults.AUTO_CANDIDATES)
            if (not order.n_inputs or model.can("inputs")) and (not order.is_4k or model.can("4k"))
        ]
        return able[draw_whole(self._scenario.seed, "auto", order.prompt) % len(able)]

    def _pick_pixels(self, order: Order, model: Model) -> str:
        size = order.size
        if size == "auto":
            toss = draw_whole(self._scenario.seed, "size", order.prompt)
            size = defaults.AUTO_SIZES[toss % len(defaults.AUTO_SIZES)]
        if not (order.is_4k and model.can("4k")):
            return self._pixels[size]
        exact = self._pixels.get(f"{order.size}_4k")
        if exact is not None:
            return exact
        width, height = defaults.read_pixels(self._pixels[size])
        return f"{round(width * defaults.FACTOR_4K)}x{round(height * defaults.FACTOR_4K)}"

    def _lacks_inputs(self, order: Order, model: Model) -> bool:
        if not model.can("inputs"):
            return order.n_inputs > 0
        if self._scenario.revision not in _REVISIONS_WITH_MODES:
            return False
        return order.n_inputs > defaults.inputs_max(model.model_id)

    def _lacking(self, order: Order, model: Model) -> str | None:
        lacks_4k = order.is_4k and not model.can("4k")
        if self._lacks_inputs(order, model) or (
            lacks_4k and self._choices.unsupported_4k == "fail_task"
        ):
            return _UNSUPPORTED
        return None


def _matches(rule: FailureRule, order: Order | Inspection | Rework) -> bool:
    if rule.type is not None and rule.type != order.type:
        return False
    if isinstance(order, Order):
        return (
            (rule.prompt_contains is None or rule.prompt_contains in order.prompt)
            and (rule.model is None or rule.model == order.model)
            and rule.url_contains is None
        )
    if rule.kind == "images" or (rule.prompt_contains, rule.model) != (None, None):
        return False
    return rule.url_contains is None or any(rule.url_contains in url for url in order.urls)


def _subject(order: Order | Inspection | Rework) -> tuple[str, ...]:
    if isinstance(order, Order):
        return order.prompt, order.model
    return order.type, *order.urls


def _failed(rule: FailureRule, order: Order, good: Outcome, code: str) -> Outcome:
    every = tuple(range(order.count))
    if rule.kind == "stuck":
        return replace(good, is_stuck=True)
    if rule.kind == "task":
        return replace(good, code=code, fails_whole=True)
    if rule.kind == "moderation":
        return replace(good, failed=every, code=code, keeps_images=True)
    chosen = frozenset(rule.image_indexes or every[: rule.n_images])
    return replace(good, failed=tuple(i for i in every if i in chosen), code=code)


# What a task that ended has to show, before a revision spells it.


class View(NamedTuple):
    """
    Under which quirks a task is spelled.

    Args:
        base_url: Scheme and host of image URLs, without a trailing slash.
        quirks: The scenario's quirks, filled.
        private_destinations: Destinations whose images have no public URL.
        failing_destinations: Destinations that take no image.
        unratable: Images of prompts that contain this cannot be rated.
        destinations: Users' own storage.
    """

    base_url: str
    quirks: Quirks
    private_destinations: tuple[str, ...] = ()
    failing_destinations: tuple[str, ...] = ()
    unratable: str | None = None
    destinations: DestinationStore | None = None

    @classmethod
    def under(cls, base_url: str, scenario: Scenario, destinations: DestinationStore) -> View:
        """What this scenario shows."""
        return cls(
            base_url,
            scenario.effective_quirks,
            scenario.private_destinations,
            scenario.failing_destinations,
            scenario.unratable,
            destinations,
        )

    def url_of(self, image: Image, task: Task) -> str | None:
        """
        Public URL of an image: the destination's if it went to one, else Mynth's.

        None if the destination did not take it or has no URLs.
        """
        name = image.destination
        if name in (*self.private_destinations, *self.failing_destinations):
            return None
        if name is None or self.destinations is None:
            return image.url
        try:
            return self.destinations.url_of(task, name, image.image_id, image.format)
        except KeyError:  # of a revision that did not know whose destinations there are
            return image.url


@dataclass(frozen=True, slots=True)
class Image:
    """
    One image of a task that ended.

    Args:
        image_id: ``img_…``.
        url: Where its bytes are, without a key.
        pixels: ``"1024x1024"``.
        cost: Units of 10⁻⁸ USD.
        level: Value of the rating scale; None: not rated.
        error_code: Upper case; None: the image succeeded.
        format: ``webp``, ``png`` or ``jpg``.
        destination: Slug of the user's own storage that it went to, or None.
    """

    image_id: str
    url: str
    pixels: str
    cost: int
    level: str | None
    error_code: str | None
    format: str
    destination: str | None


def images_of(task: Task, base_url: str) -> Iterator[Image]:
    """The images of a task that shows any, in order."""
    order, outcome = task.order, task.outcome
    assert not isinstance(order, Inspection)
    failed = frozenset(outcome.failed)
    for i in range(task.n_images):
        image_id = task.image_id(i)
        yield Image(
            image_id=image_id,
            url=f"{base_url}/cdn/{image_id}.{outcome.format}",
            pixels=outcome.pixels,
            cost=task.image_share(i),
            level=_level(order.rating_levels, task.seed, order.prompt, i)
            if isinstance(order, Order)
            else None,
            error_code=outcome.code if i in failed else None,
            format=outcome.format,
            destination=order.destination,
        )


def ratings_of(task: Task) -> Iterator[tuple[str, str]]:
    """Each URL of a rating task with its level."""
    assert isinstance(task.order, Inspection)
    for i, url in enumerate(task.order.urls):
        yield url, _level(task.order.levels, task.seed, url, i) or ""


def enhanced_prompt(order: Order) -> str:
    """What enhancement makes of a prompt."""
    return order.prompt + defaults.MAGIC_SUFFIX


def motif_of(task: Task, image_index: int) -> int:
    """The number that an image is drawn from."""
    order = task.order
    subject = order.prompt if isinstance(order, Order) else order.urls[0]
    return draw_whole(task.seed, "picture", subject, task.outcome.model, image_index)


def describe(task: Task, url: str) -> str:
    """An alt text."""
    return defaults.ALT_TEXTS[draw_whole(task.seed, "alt", url) % len(defaults.ALT_TEXTS)]


def score(task: Task, url: str) -> int:
    """A review's score: 2 to 4."""
    return 2 + draw_whole(task.seed, "score", url) % 3


def message_of(code: str) -> str:
    """Prose for a task's or an image's error code."""
    texts = {
        "RESTRICTED_CONTENT": defaults.RESTRICTED_TEXT,
        "CAPABILITY_NOT_SUPPORTED": defaults.CAPABILITY_TEXT,
        "OUTPUT_TOO_LARGE": defaults.OUTPUT_TOO_LARGE_TEXT,
    }
    return texts.get(code.upper(), defaults.FAILED_TEXT)


def _level(levels: tuple[str, ...] | None, seed: int, text: str, index: int) -> str | None:
    if levels is None:
        return None
    toss = draw_whole(seed, "rating", text, index)
    return levels[0] if toss % 4 else levels[toss // 4 % len(levels)]


# What a request costs, by an invented rule over the price book.
#
# Price = images × price per image (its 4k price for 4k) + inputs × price per input.
# ``auto`` is held at a flat ceiling per image, and costs what the chosen model costs, never more.


_INSPECTION_UNITS = {
    "image.rate": units_of(defaults.RATE_USD),
    "image.alt": units_of(defaults.ALT_USD),
    "image.review": units_of(defaults.REVIEW_USD),
}
_LOW_REVIEW_UNITS = units_of(defaults.REVIEW_LOW_USD)


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Prices of one model, units of 10⁻⁸ USD; None where it lacks the capability."""

    base: int
    four_k: int | None
    per_input: int | None


class PriceBook:
    """The prices of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.models = MODELS_BY_REVISION[scenario.revision]
        self._changed = scenario.prices_usd
        self.auto_ceiling = units_of(scenario.auto_ceiling_usd)
        self.lists_auto = bool(scenario.effective_quirks.catalogue_has_auto)
        self._prices = {model_id: self._of(model) for model_id, model in self.models.items()}

    def of(self, model_id: str) -> ModelPrice:
        """The prices of a model that exists."""
        return self._prices[model_id]

    def full_price(self, order: Order, model_id: str, *, is_4k: bool) -> int:
        """What an order costs with a concrete model if every image succeeds, units."""
        price = self._prices[model_id]
        per_image = price.four_k if is_4k and price.four_k is not None else price.base
        return order.count * per_image + order.n_inputs * (price.per_input or 0)

    def hold(self, order: Order, *, is_4k: bool) -> int:
        """What is reserved for an order, units."""
        if order.model == AUTO_MODEL:
            return order.count * self.auto_ceiling
        return self.full_price(order, order.model, is_4k=is_4k)

    def inspection(self, inspection: Inspection) -> int:
        """What it costs to rate, describe or review, units."""
        if inspection.effort == "low":
            return _LOW_REVIEW_UNITS
        return _INSPECTION_UNITS[inspection.type] * len(inspection.urls)

    def rework(self, rework: Rework) -> int:
        """What it costs to upscale or to remove the background, units."""
        if rework.type == "image.remove_background":
            return units_of(defaults.REMOVE_BACKGROUND_USD)
        return units_of(defaults.UPSCALE_USD[rework.factor, rework.effort or ""])

    def _of(self, model: Model) -> ModelPrice:
        listed = defaults.PRICES_USD.get(model.model_id, defaults.PRICE_USD)
        base = units_of(self._changed.get(model.model_id, listed))
        per_input = defaults.INPUT_PRICES_USD.get(model.model_id, defaults.PRICE_PER_INPUT_USD)
        return ModelPrice(
            base=base,
            four_k=base * defaults.PRICE_4K_FACTOR if model.can("4k") else None,
            per_input=units_of(per_input) if model.can("inputs") else None,
        )
