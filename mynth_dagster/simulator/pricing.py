"""
What a request costs, by an invented rule over the price book.

Price = images × price per image (its 4k price for 4k) + inputs × price per input.
``auto`` is held at a flat ceiling per image, and costs what the chosen model costs, never more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mynth_dagster.capabilities import MODELS_BY_REVISION, Model
from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.simulator import invented
from mynth_dagster.simulator.amounts import units_of
from mynth_dagster.simulator.orders import Inspection, Order, Rework

if TYPE_CHECKING:
    from mynth_dagster.simulator.scenario import Scenario

_INSPECTION_UNITS = {
    "image.rate": units_of(invented.RATE_USD),
    "image.alt": units_of(invented.ALT_USD),
    "image.review": units_of(invented.REVIEW_USD),
}
_LOW_REVIEW_UNITS = units_of(invented.REVIEW_LOW_USD)


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
        self.lists_auto = bool(scenario.choices.catalogue_has_auto)
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
            return units_of(invented.REMOVE_BACKGROUND_USD)
        return units_of(invented.UPSCALE_USD[rework.factor, rework.effort or ""])

    def _of(self, model: Model) -> ModelPrice:
        listed = invented.PRICES_USD.get(model.model_id, invented.PRICE_USD)
        base = units_of(self._changed.get(model.model_id, listed))
        per_input = invented.INPUT_PRICES_USD.get(model.model_id, invented.PRICE_PER_INPUT_USD)
        return ModelPrice(
            base=base,
            four_k=base * invented.PRICE_4K_FACTOR if model.can("4k") else None,
            per_input=units_of(per_input) if model.can("inputs") else None,
        )
