"""
What will become of a request: its model, its pixels, and whether it fails.

Drawn once, when the task is made, from the seed and the request alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from mynth_dagster.capabilities import MODELS_BY_REVISION, Model
from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.simulator import invented
from mynth_dagster.simulator.draws import draw, draw_whole
from mynth_dagster.simulator.orders import Inspection, Order, Rework
from mynth_dagster.simulator.refusals import RESTRICTED, Reason, Refusal, invalid
from mynth_dagster.simulator.rules import FailureRule
from mynth_dagster.simulator.tasks import Outcome

if TYPE_CHECKING:
    from mynth_dagster.simulator.scenario import Scenario

_UNSUPPORTED = "CAPABILITY_NOT_SUPPORTED"
_TOO_LARGE = "OUTPUT_TOO_LARGE"
_REVISIONS_WITH_MODES = frozenset({"2026-10"})  # their catalogue tells how many inputs
_UPSCALED_MAX_SIDE_PX = 4096  # documented


class Fates:
    """Draws outcomes for one scenario, and remembers how often a rule has seen a prompt."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._choices = scenario.choices
        self._models = MODELS_BY_REVISION[scenario.revision]
        self._seen: Counter[tuple[int, int]] = Counter()
        self._pixels = {**invented.PIXELS, **scenario.pixels}

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
                    raise Refusal(Reason(code, RESTRICTED.status), invented.RESTRICTED_TEXT)
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
            rework.factor * side for side in invented.read_pixels(rework.source_pixels)
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
        return rule.error_code(invented.FAILURE_CODES[self._scenario.revision])

    def _format_of(self, model_id: str) -> str:
        return self._scenario.provider_formats.get(model_id) or invented.provider_format(model_id)

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
            for model in map(self._models.__getitem__, invented.AUTO_CANDIDATES)
            if (not order.n_inputs or model.can("inputs")) and (not order.is_4k or model.can("4k"))
        ]
        return able[draw_whole(self._scenario.seed, "auto", order.prompt) % len(able)]

    def _pick_pixels(self, order: Order, model: Model) -> str:
        size = order.size
        if size == "auto":
            toss = draw_whole(self._scenario.seed, "size", order.prompt)
            size = invented.AUTO_SIZES[toss % len(invented.AUTO_SIZES)]
        if not (order.is_4k and model.can("4k")):
            return self._pixels[size]
        exact = self._pixels.get(f"{order.size}_4k")
        if exact is not None:
            return exact
        width, height = invented.read_pixels(self._pixels[size])
        return f"{round(width * invented.FACTOR_4K)}x{round(height * invented.FACTOR_4K)}"

    def _lacks_inputs(self, order: Order, model: Model) -> bool:
        if not model.can("inputs"):
            return order.n_inputs > 0
        if self._scenario.revision not in _REVISIONS_WITH_MODES:
            return False
        return order.n_inputs > invented.inputs_max(model.model_id)

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
