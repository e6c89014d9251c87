"""What a run will reserve, estimated before it sends anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from mynth_dagster.client.client import MynthClient
from mynth_dagster.engine.plan import (
    DEFAULT_RUN_OPTIONS,
    Plan,
    PriceClass,
    RunOptions,
    build_plan,
    price_class,
)
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import RERUN, StopReason
from mynth_dagster.engine.work import Work
from mynth_dagster.errors import ApiError, PriceUnknownError
from mynth_dagster.ledger.claims import Claimed
from mynth_dagster.ledger.queries import PartitionRow
from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.money import NOTHING, Budget, Exposure, format_usd, units_from_usd
from mynth_dagster.models.request import PaidRequest, RowRequest
from mynth_dagster.models.task import CatalogModel

ESTIMATES_MAX = 64
"""Price classes that are priced by the estimate endpoint; a table with more uses the catalogue."""


PLACEHOLDER_URL = "https://example.com/input.png"
"""Stands for each input in a request for an estimate."""


@dataclass(frozen=True)
class Price:
    """
    The price of one request in units of 10⁻⁸ USD, None where unknown.

    `basis` is `estimate`, `catalogue`, `configured`, `documented` or `unknown`;
    `exact` is False for an upper bound or a computed figure.
    """

    units: int | None
    basis: str
    exact: bool = False


@dataclass(frozen=True)
class Quote:
    """
    Prices by class, and what they add up to.

    `n_requests` by class; `notes` are sentences on why a price is not known.
    """

    prices: Mapping[PriceClass, Price]
    n_requests: Mapping[PriceClass, int]
    notes: tuple[str, ...] = ()

    def price_of(self, request: PaidRequest) -> int | None:
        """Units of 10⁻⁸ USD that one request is expected to reserve."""
        price = self.prices.get(price_class(request))
        return None if price is None else price.units

    @property
    def total_units(self) -> int | None:
        """All requests together; None as soon as one price is unknown."""
        total = 0
        for kind, n_requests in self.n_requests.items():
            units = self.prices[kind].units
            if units is None:
                return None
            total += units * n_requests
        return total

    @property
    def is_exact(self) -> bool:
        return all(self.prices[kind].exact for kind in self.n_requests)

    @property
    def bases(self) -> tuple[str, ...]:
        """The bases that the total rests on, sorted."""
        return tuple(sorted({self.prices[kind].basis for kind in self.n_requests}))


def paid_again_units(plan: Plan, quote: Quote) -> int | None:
    """
    Return what paid rows would cost again, in units of 10⁻⁸ USD; None where unknown.

    Rows that came for others which are gone, such as those of another model, cost the mean.
    """
    n_replaced = sum(paid.n_suspect - paid.n_again for paid in plan.paid.values())
    again = Quote(quote.prices, +plan.n_paid_again).total_units
    if not n_replaced:
        return again
    if again is None or quote.total_units is None:
        return None
    return again + -(-quote.total_units * n_replaced // plan.n_to_send)


def total_of(quotes: Sequence[Quote]) -> int | None:
    """Add up several quotes, in units of 10⁻⁸ USD; None as soon as one is unknown."""
    totals = [quote.total_units for quote in quotes]
    known = [total for total in totals if total is not None]
    return sum(known) if len(known) == len(totals) else None


async def build_quote(
    client: MynthClient,
    samples: Mapping[PriceClass, PaidRequest],
    n_requests: Mapping[PriceClass, int],
    prices_usd: Mapping[str, Decimal],
) -> Quote:
    """
    Price each class: by the estimate endpoint, else the catalogue, else configuration, else for
    `auto` the documented ceiling.

    A look-up that is not offered or not allowed is no error: the next basis is used, with a note.
    Nothing here creates or charges anything.
    """
    notes: list[str] = []
    prices = dict.fromkeys(samples, Price(None, "unknown"))
    if client.profile.HAS_ESTIMATE and len(samples) <= ESTIMATES_MAX:
        prices |= await _estimated(client, samples, notes)
    if client.profile.HAS_CATALOG and any(price.units is None for price in prices.values()):
        prices |= await _from_catalog(client, prices, notes)
    held_for_auto_usd = client.profile.LIMITS.auto_reserved_usd
    for kind, price in prices.items():
        if price.units is None:
            prices[kind] = _configured(kind, prices_usd)
        if prices[kind].units is None and kind.model == AUTO_MODEL and held_for_auto_usd:
            units = units_from_usd(held_for_auto_usd) * kind.count
            prices[kind] = Price(units, "documented")
    notes += _unknown_notes(prices)
    return Quote(prices, n_requests, tuple(notes))


async def _estimated(
    client: MynthClient, samples: Mapping[PriceClass, PaidRequest], notes: list[str]
) -> dict[PriceClass, Price]:
    found: dict[PriceClass, Price] = {}
    for kind, request in samples.items():
        if not isinstance(request, RowRequest):
            continue  # Mynth estimates images alone
        try:
            estimate = await client.estimate(_without_files(request))
        except ApiError as error:
            notes.append(f"no estimate for {kind.model}: {error.reason}")
            continue
        found[kind] = Price(estimate.units, "estimate", exact=estimate.exact)
    return found


def _without_files(request: RowRequest) -> RowRequest:
    """Replace files by a stand-in: an estimate fetches nothing and must not see our paths."""
    inputs = (replace(image, url=PLACEHOLDER_URL) for image in request.inputs)
    return replace(request, inputs=tuple(inputs))


async def _from_catalog(
    client: MynthClient, prices: Mapping[PriceClass, Price], notes: list[str]
) -> dict[PriceClass, Price]:
    try:
        catalog = await client.get_catalog()
    except ApiError as error:
        notes.append(f"no catalogue: {error.reason}")
        return {}
    missing = [kind for kind, price in prices.items() if price.units is None]
    return {
        kind: Price(_catalog_units(kind, catalog.get(kind.model)), "catalogue")
        for kind in missing
        if kind.model in catalog
    }


def _catalog_units(kind: PriceClass, model: CatalogModel | None) -> int | None:
    if model is None or model.base_units is None:
        return None
    per_image = model.base_units
    if kind.is_4k and model.base_4k_units is not None:
        per_image = model.base_4k_units
    return per_image * kind.count + (model.per_input_units or 0) * kind.n_inputs


def _configured(kind: PriceClass, prices_usd: Mapping[str, Decimal]) -> Price:
    per_image = prices_usd.get(kind.model)
    if per_image is None:
        return Price(None, "unknown")
    return Price(units_from_usd(per_image) * kind.count, "configured")


def _unknown_notes(prices: Mapping[PriceClass, Price]) -> list[str]:
    models = sorted({kind.model for kind, price in prices.items() if price.units is None})
    hint = " (what 'auto' costs is known only afterwards)" if AUTO_MODEL in models else ""
    return [f"the price of {', '.join(models)} is unknown{hint}"] if models else []


# What sending each of several partitions would cost; all requests are free.


async def quote_each(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> dict[Slice, tuple[Plan, Quote]]:
    """Quote each partition; a price class is looked up once over all of them."""
    plans = {slice_: await build_plan(session, work, [slice_], options) for slice_ in slices}
    samples: dict[PriceClass, PaidRequest] = {}
    n_requests: Counter[PriceClass] = Counter()
    for plan in plans.values():
        samples = {**plan.samples, **samples}
        n_requests += plan.n_requests
    prices_usd = work.batch.spending.prices_usd
    quote = await build_quote(session.client, samples, n_requests, prices_usd)
    return {slice_: (plan, _part_of(quote, plan)) for slice_, plan in plans.items()}


def _part_of(quote: Quote, plan: Plan) -> Quote:
    return Quote(quote.prices, plan.n_requests, quote.notes if plan.n_to_send else ())


# What a run may still spend: caps that are used up, and prices that a cap needs to know.


BUDGET_EXCEEDED = "budget_exceeded"


class Funds:
    """
    Which partitions of a run have no money left.

    Once a row does not fit, no later row of the same scope is tried: a run always sends the
    beginning of the table, and the next run goes on behind it.
    """

    def __init__(self) -> None:
        self._closed: set[tuple[str | None, str | None]] = set()

    def close(self, claimed: Claimed, slice_: Slice) -> None:
        """Note that a row of this partition did not fit."""
        whole_batch, window = (None, None), (slice_.window, None)
        scope = {Claimed.OVER_BATCH: whole_batch, Claimed.OVER_WINDOW: window}
        self._closed.add(scope.get(claimed, (slice_.window, slice_.fan_out)))

    def is_closed(self, window: str, fan_out: str) -> bool:
        """Whether nothing more may be sent into this partition."""
        if not self._closed:
            return False
        return not self._closed.isdisjoint({(None, None), (window, None), (window, fan_out)})


def require_prices(budget: Budget, quote: Quote) -> None:
    """
    Require a known price of every request, at least as an upper bound, where a cap counts it.

    Raises:
        PriceUnknownError: Names the models; nothing was sent.
    """
    if budget.is_set and quote.total_units is None:
        unknown = {kind.model for kind in quote.n_requests if quote.prices[kind].units is None}
        raise PriceUnknownError(sorted(unknown), str(budget))


def budget_reason(
    budget: Budget, rows: Sequence[PartitionRow], closed: Sequence[Slice], n_withheld: int
) -> StopReason:
    """Return why a run ends that sent all that there was money for."""
    places = {(slice_.window, slice_.fan_out) for slice_ in closed}
    used = sum((r.exposure for r in rows if (r.window, r.fan_out) in places), NOTHING)
    return StopReason(
        BUDGET_EXCEEDED,
        f"The budget ({budget}) is used up in {len(closed)} partitions: {_in_words(used)}. "
        f"{n_withheld} rows were not sent.",
        f"raise the budget, then {RERUN}",
    )


def _in_words(used: Exposure) -> str:
    return (
        f"{format_usd(used.spent)} charged, {format_usd(used.reserved)} reserved, "
        f"{format_usd(used.unknown)} unknown"
    )
