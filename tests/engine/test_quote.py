"""Prices before the first paid request: by estimate, else catalogue, else configuration."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from mynth_dagster.engine.plan import price_class
from mynth_dagster.engine.quote import ESTIMATES_MAX, Price, Quote, build_quote, total_of
from mynth_dagster.models.request import InputImage, RowRequest
from tests.client.raw import client_of
from tests.factories import KEY, MODEL

ESTIMATE, MODELS = "POST /image/generate/estimate", "GET /models"


@pytest.fixture
def quote(simulator, clock):
    """The quote of these requests, by a simulator under a scenario."""

    def quote(*requests, revision="2026-10", prices=None, **scenario):
        server = simulator(clock=clock, revision=revision, **scenario)
        kinds = [price_class(request) for request in requests]
        samples = dict(zip(kinds, requests, strict=True))
        n_requests = {kind: kinds.count(kind) * 10 for kind in kinds}

        async def build():
            async with client_of(server.url, revision=revision, clock=clock, api_key=KEY) as client:
                return await build_quote(client, samples, n_requests, prices or {})

        return asyncio.run(build()), server

    return quote


REQUEST = RowRequest("a", model=MODEL)


def test_the_estimate_is_exact_for_a_pinned_model(quote):
    """Ten rows at the estimated price each; nothing is created."""
    built, server = quote(REQUEST, prices_usd={MODEL: "0.03"})

    assert (built.total_units, built.bases, built.is_exact) == (30_000_000, ("estimate",), True)
    assert built.notes == ()
    assert "POST /image/generate" not in server.log()["requests"]


@pytest.mark.parametrize(
    ("units", "total"), [([], 0), ([5, 7], 12), ([5, None], None), ([None, 7], None)]
)
def test_quotes_add_up_only_where_all_are_known(units, total):
    """A sum of those that are known would look like a price."""
    kind = price_class(REQUEST)
    quotes = [Quote({kind: Price(each, "estimate")}, {kind: 1}) for each in units]

    assert total_of(quotes) == total


def test_an_automatic_model_has_an_upper_bound(quote):
    """What is held is known, what it will cost is not."""
    built, _ = quote(RowRequest("a"))

    assert built.total_units == 10 * 20_000_000
    assert not built.is_exact


@pytest.mark.parametrize("fault", [{"status": 403, "code": "forbidden"}, {"status": 404}])
def test_without_estimates_the_catalogue_prices(quote, fault):
    """Count, inputs and 4k are priced as the catalogue says; a note tells why."""
    request = RowRequest("a", model=MODEL, count=3, inputs=(InputImage("https://x/y.png"),))
    built, server = quote(request, faults=[{"route": ESTIMATE, "kind": "status", **fault}])

    async def catalog():
        async with client_of(server.url, api_key=KEY) as client:
            return (await client.get_catalog())[MODEL]

    listed = asyncio.run(catalog())
    assert built.bases == ("catalogue",)
    assert built.total_units == 10 * (3 * listed.base_units + (listed.per_input_units or 0))
    assert not built.is_exact
    assert "no estimate" in built.notes[0]


def test_without_both_the_configured_price_counts(quote):
    """The user's own figure, where nothing better is told."""
    faults = [{"route": route, "kind": "status", "status": 404} for route in (ESTIMATE, MODELS)]
    built, _ = quote(REQUEST, faults=faults, prices={MODEL: Decimal("0.02")})

    assert (built.total_units, built.bases) == (20_000_000, ("configured",))


def test_the_old_revision_has_only_configured_prices(quote):
    """No look-up is made that the revision does not have."""
    built, server = quote(REQUEST, revision="2026-04", prices={MODEL: Decimal("0.02")})

    assert (built.total_units, built.bases) == (20_000_000, ("configured",))
    assert server.log()["requests"] == {}


def test_an_unknown_price_is_unknown_and_never_zero(quote):
    """The total is not known as soon as one price is not, and the note names the model."""
    built, _ = quote(REQUEST, RowRequest("a"), revision="2026-04", prices={MODEL: Decimal("0.02")})

    assert built.total_units is None
    assert built.price_of(REQUEST) == 2_000_000
    assert "auto" in built.notes[-1]


def test_many_price_classes_are_priced_by_one_request(quote):
    """A table with more classes than are worth asking for uses the catalogue."""
    requests = [
        RowRequest("a", model=MODEL, count=n % 20 + 1, inputs=(InputImage("u"),) * (n // 20))
        for n in range(ESTIMATES_MAX + 1)
    ]
    built, server = quote(*requests)

    assert server.log()["requests"] == {MODELS: 1}
    assert built.bases == ("catalogue",)


def test_an_automatic_model_without_an_estimate_holds_what_is_documented(quote):
    """Twenty cents an image, as an upper bound; earlier revisions do not say."""
    closed = [{"route": ESTIMATE, "kind": "status", "status": 403, "code": "insufficient_scope"}]
    auto = RowRequest("a", count=3)

    built, _ = quote(auto, faults=closed)
    before, _ = quote(auto, revision="2026-08", faults=closed)

    assert (built.total_units, built.bases) == (10 * 3 * 20_000_000, ("documented",))
    assert not built.is_exact
    assert before.total_units is None
