"""Money is exact: integers inside, decimals at the edges."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.models.money import (
    UNITS_MAX,
    format_usd,
    split_units,
    units_from_usd,
    usd_from_units,
)


@given(st.integers(-UNITS_MAX, UNITS_MAX))
def test_units_survive_the_way_to_usd_and_back(units):
    """No amount that a ledger holds is rounded."""
    assert units_from_usd(usd_from_units(units)) == units
    assert units_from_usd(f"{usd_from_units(units):f}") == units


@pytest.mark.parametrize(
    ("amount", "units"),
    [("0.0125", 1_250_000), ("0.01250000", 1_250_000), (3, 300_000_000), ("-0.5", -50_000_000)],
)
def test_both_spellings_are_one_amount(amount, units):
    """Trimmed or with eight decimals."""
    assert units_from_usd(amount) == units


@pytest.mark.parametrize(
    "amount",
    ["", "x", "NaN", "sNaN", "Infinity", "1e999999", "1e12", "0.000000001", Decimal("NaN")],
)
def test_what_is_no_amount_is_refused(amount):
    """Not finite, too large for a ledger, or finer than eight decimals."""
    with pytest.raises(ValueError, match=r"amount|USD"):
        units_from_usd(amount)


@pytest.mark.parametrize(
    ("units", "text"),
    [
        (None, "unknown"),
        (0, "$0.00"),
        (1, "$0.00000001"),
        (5_000_000, "$0.05"),
        (10**10, "$100.00"),
    ],
)
def test_people_read_at_least_two_decimals(units, text):
    """No trailing zeros beyond cents; unknown is not zero."""
    assert format_usd(units) == text


@given(st.integers(0, UNITS_MAX), st.integers(1, 100))
def test_shares_add_up_exactly(total, parts):
    """They differ by one unit at most."""
    shares = split_units(total, parts)

    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
