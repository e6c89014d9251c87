"""
What will become of a request: its model, its pixels, whether it fails, what it costs and shows.

Chosen once, when the task is made, from the seed and the request alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from mynth_dagster.capabilities import MODELS_BY_REVISION, Model
from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.defaults import units_of
from mynth_dagster.simulator.destinations import DestinationStore
from mynth_dagster.simulator.rng import random_share, random_whole
from mynth_dagster.simulator.scenario import FailureRule, Quirks, Scenario
from mynth_dagster.simulator.tasks import (
    AnalysisRequest,
    AnyRequest,
    EditRequest,
    GenerateRequest,
    Outcome,
    SimulatedTask,
)
from mynth_dagster.simulator.validation import RESTRICTED, ErrorCode, Refusal, invalid

_REVISIONS_WITH_MODES = frozenset({"2026-10"})  # their catalogue tells how many inputs
_UPSCALED_MAX_SIDE_PX = 4096  # documented


class OutcomePicker:
    """Chooses outcomes for one scenario, and remembers how often a rule has seen a prompt."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._quirks = scenario.effective_quirks
        self._models = MODELS_BY_REVISION[scenario.revision]
        self._seen: Counter[tuple[int, int]] = Counter()
        self._pixels = {**defaults.PIXELS, **scenario.pixels}

    def change(self, scenario: Scenario) -> OutcomePicker:
        """A picker for a changed scenario; what equal failure rules have seen is not forgotten."""
        changed = OutcomePicker(scenario)
        if scenario.failures == self._scenario.failures:
            changed._seen = self._seen
        return changed

    def check_model(self, request: GenerateRequest) -> None:
        """
        Whether the model exists and can do what is asked.

        Raises:
            Refusal: It does not, or the scenario refuses inputs to a model without them.
        """
        if request.model == AUTO_MODEL:
            return
        model = self._models.get(request.model)
        if model is None:
            raise invalid("model", "is not a known model")
        if self._lacks_inputs(request, model) and self._quirks.unsupported_inputs == "refuse":
            raise invalid("inputs", "are not supported by this model")

    def is_priced_4k(self, request: AnyRequest) -> bool:
        """Whether 4k is asked for and delivered; a model without 4k falls back."""
        if not isinstance(request, GenerateRequest) or not request.is_4k:
            return False
        return request.model == AUTO_MODEL or self._models[request.model].can("4k")

    def find_rule(self, request: AnyRequest) -> FailureRule | None:
        """
        The failure rule that applies to this request, the next time it is seen.

        Raises:
            Refusal: The rule refuses the request itself.
        """
        for position, rule in enumerate(self._scenario.failures):
            if not _matches(rule, request) or not self._applies(position, rule, request):
                continue
            if rule.kind == "refused":
                code = self._code_of(rule).lower()
                raise Refusal(ErrorCode(code, RESTRICTED.status), defaults.RESTRICTED_TEXT)
            return rule
        return None

    def pick(self, request: AnyRequest, rule: FailureRule | None) -> Outcome:
        """The outcome of a request under a failure rule."""
        if isinstance(request, GenerateRequest):
            good = self._generated(request)
        elif isinstance(request, EditRequest):
            good = self._edited(request)
        else:
            good = Outcome()
        if rule is None or good.code is not None:
            return good
        if rule.kind == "stuck":
            return replace(good, is_stuck=True)
        code = self._code_of(rule)
        if rule.kind == "task" or not isinstance(request, GenerateRequest):
            return replace(good, code=code, fails_whole=True)
        every = tuple(range(request.count))
        if rule.kind == "moderation":
            return replace(good, failed=every, code=code, keeps_images=True)
        chosen = frozenset(rule.image_indexes or every[: rule.n_images])
        return replace(good, failed=tuple(i for i in every if i in chosen), code=code)

    def pick_latency_s(self, task_number: int) -> float:
        """How long a task takes, seconds."""
        return self._scenario.latency.at(random_share(self._scenario.seed, "latency", task_number))

    def _applies(self, position: int, rule: FailureRule, request: AnyRequest) -> bool:
        if not rule.counts:
            return rule.share > 0
        subject: tuple[str, ...]
        if isinstance(request, GenerateRequest):
            subject = request.prompt, request.model
        else:
            subject = request.type, *request.urls
        seen = (position, random_whole(0, *subject))
        self._seen[seen] += 1
        nth = self._seen[seen]
        if rule.first is not None and nth > rule.first:
            return False
        return random_share(self._scenario.seed, "failure", position, *subject, nth) < rule.share

    def _generated(self, request: GenerateRequest) -> Outcome:
        model = self._pick_model(request)
        outcome = Outcome(
            model.model_id,
            self._pick_pixels(request, model),
            format=request.format or self._format_of(model.model_id),
        )
        lacks_4k = request.is_4k and not model.can("4k")
        if self._lacks_inputs(request, model) or (
            lacks_4k and self._quirks.unsupported_4k == "fail_task"
        ):
            return replace(outcome, code="CAPABILITY_NOT_SUPPORTED", fails_whole=True)
        return outcome

    def _edited(self, request: EditRequest) -> Outcome:
        width, height = (
            request.factor * side for side in defaults.read_pixels(request.source_pixels)
        )
        file_format = request.format or self._format_of(request.type)
        outcome = Outcome(pixels=f"{width}x{height}", format=file_format)
        if request.type == "image.upscale" and max(width, height) > _UPSCALED_MAX_SIDE_PX:
            return replace(outcome, code="OUTPUT_TOO_LARGE", fails_whole=True)
        return outcome

    def _pick_model(self, request: GenerateRequest) -> Model:
        if request.model != AUTO_MODEL:
            return self._models[request.model]
        able = [
            model
            for model in map(self._models.__getitem__, defaults.AUTO_CANDIDATES)
            if (not request.n_inputs or model.can("inputs"))
            and (not request.is_4k or model.can("4k"))
        ]
        return able[random_whole(self._scenario.seed, "auto", request.prompt) % len(able)]

    def _pick_pixels(self, request: GenerateRequest, model: Model) -> str:
        size = request.size
        if size == "auto":
            number = random_whole(self._scenario.seed, "size", request.prompt)
            size = defaults.AUTO_SIZES[number % len(defaults.AUTO_SIZES)]
        if not (request.is_4k and model.can("4k")):
            return self._pixels[size]
        exact = self._pixels.get(f"{request.size}_4k")
        if exact is not None:
            return exact
        width, height = defaults.read_pixels(self._pixels[size])
        return f"{round(width * defaults.FACTOR_4K)}x{round(height * defaults.FACTOR_4K)}"

    def _lacks_inputs(self, request: GenerateRequest, model: Model) -> bool:
        if not model.can("inputs"):
            return request.n_inputs > 0
        if self._scenario.revision not in _REVISIONS_WITH_MODES:
            return False
        return request.n_inputs > defaults.inputs_max(model.model_id)

    def _code_of(self, rule: FailureRule) -> str:
        return rule.error_code(defaults.FAILURE_CODES[self._scenario.revision])

    def _format_of(self, model_id: str) -> str:
        return self._scenario.provider_formats.get(model_id) or defaults.provider_format(model_id)


def _matches(rule: FailureRule, request: AnyRequest) -> bool:
    if rule.type is not None and rule.type != request.type:
        return False
    if isinstance(request, GenerateRequest):
        return (
            (rule.prompt_contains is None or rule.prompt_contains in request.prompt)
            and (rule.model is None or rule.model == request.model)
            and rule.url_contains is None
        )
    if rule.kind == "images" or (rule.prompt_contains, rule.model) != (None, None):
        return False
    return rule.url_contains is None or any(rule.url_contains in url for url in request.urls)


# What a request costs, by an invented rule over the price book.
#
# Price = images × price per image (its 4k price for 4k) + inputs × price per input.
# ``auto`` is held at a flat ceiling per image, and costs what the chosen model costs, never more.


_ANALYSIS_UNITS = {
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
        self.auto_ceiling = units_of(scenario.auto_ceiling_usd)
        self.lists_auto = bool(scenario.effective_quirks.catalogue_has_auto)
        self._prices: dict[str, ModelPrice] = {}
        for model_id, model in self.models.items():
            listed = defaults.PRICES_USD.get(model_id, defaults.PRICE_USD)
            base = units_of(scenario.prices_usd.get(model_id, listed))
            per_input = defaults.INPUT_PRICES_USD.get(model_id, defaults.PRICE_PER_INPUT_USD)
            self._prices[model_id] = ModelPrice(
                base=base,
                four_k=base * defaults.PRICE_4K_FACTOR if model.can("4k") else None,
                per_input=units_of(per_input) if model.can("inputs") else None,
            )

    def __getitem__(self, model_id: str) -> ModelPrice:
        return self._prices[model_id]

    def hold(self, request: AnyRequest, *, is_4k: bool) -> int:
        """What is reserved for a request, units."""
        if isinstance(request, GenerateRequest) and request.model == AUTO_MODEL:
            return request.count * self.auto_ceiling
        return self.price(request, getattr(request, "model", ""), is_4k=is_4k)

    def price(self, request: AnyRequest, model_id: str, *, is_4k: bool) -> int:
        """What a request costs with a concrete model if everything succeeds, units."""
        if isinstance(request, GenerateRequest):
            price = self._prices[model_id]
            per_image = price.four_k if is_4k and price.four_k is not None else price.base
            return request.count * per_image + request.n_inputs * (price.per_input or 0)
        if isinstance(request, AnalysisRequest):
            if request.effort == "low":
                return _LOW_REVIEW_UNITS
            return _ANALYSIS_UNITS[request.type] * len(request.urls)
        if request.type == "image.remove_background":
            return units_of(defaults.REMOVE_BACKGROUND_USD)
        return units_of(defaults.UPSCALE_USD[request.factor, request.effort or ""])


# What a task that ended has to show, before a revision writes it.


class Rendering(NamedTuple):
    """
    Under which circumstances a task is shown.

    Args:
        base_url: Scheme and host of image URLs, without a trailing slash.
        scenario: What is being played.
        destinations: Users' own storage.
    """

    base_url: str
    scenario: Scenario
    destinations: DestinationStore

    @property
    def quirks(self) -> Quirks:
        """The scenario's quirks."""
        return self.scenario.effective_quirks

    def is_unratable(self, request: GenerateRequest) -> bool:
        """Whether the images of a request cannot be rated."""
        return self.scenario.unratable is not None and self.scenario.unratable in request.prompt

    def has_no_url(self, destination: str | None) -> bool:
        """Whether images that go to a destination have no public URL."""
        scenario = self.scenario
        return destination in (*scenario.private_destinations, *scenario.failing_destinations)


@dataclass(frozen=True, slots=True)
class SimulatedImage:
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


def images_of(task: SimulatedTask, base_url: str) -> Iterator[SimulatedImage]:
    """The images of a task that shows any, in order."""
    request, outcome = task.request, task.outcome
    failed = frozenset(outcome.failed)
    for i in range(task.n_images):
        image_id = task.image_id(i)
        level = None
        if isinstance(request, GenerateRequest) and request.rating_levels is not None:
            level = _pick_level(request.rating_levels, task.seed, request.prompt, i)
        yield SimulatedImage(
            image_id=image_id,
            url=f"{base_url}/cdn/{image_id}.{outcome.format}",
            pixels=outcome.pixels,
            cost=task.image_share(i),
            level=level,
            error_code=outcome.code if i in failed else None,
            format=outcome.format,
            destination=request.destination,
        )


def ratings_of(task: SimulatedTask) -> Iterator[tuple[str, str]]:
    """Each URL of a rating task with its level."""
    assert isinstance(task.request, AnalysisRequest)
    for i, url in enumerate(task.request.urls):
        yield url, _pick_level(task.request.levels, task.seed, url, i)


def alt_text_of(task: SimulatedTask, url: str) -> str:
    """A description of an image."""
    return defaults.ALT_TEXTS[random_whole(task.seed, "alt", url) % len(defaults.ALT_TEXTS)]


def score_of(task: SimulatedTask, url: str) -> int:
    """A review's score: 2 to 4."""
    return 2 + random_whole(task.seed, "score", url) % 3


def picture_number(task: SimulatedTask, image_index: int) -> int:
    """The number that an image is drawn from."""
    request = task.request
    subject = request.prompt if isinstance(request, GenerateRequest) else request.urls[0]
    return random_whole(task.seed, "picture", subject, task.outcome.model, image_index)


def message_of(code: str) -> str:
    """Prose for a task's or an image's error code."""
    texts = {
        "RESTRICTED_CONTENT": defaults.RESTRICTED_TEXT,
        "CAPABILITY_NOT_SUPPORTED": defaults.CAPABILITY_TEXT,
        "OUTPUT_TOO_LARGE": defaults.OUTPUT_TOO_LARGE_TEXT,
    }
    return texts.get(code.upper(), defaults.FAILED_TEXT)


def _pick_level(levels: tuple[str, ...], seed: int, text: str, index: int) -> str:
    number = random_whole(seed, "rating", text, index)
    return levels[0] if number % 4 else levels[number // 4 % len(levels)]
