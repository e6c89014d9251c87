"""
Exact money: integers of 10⁻⁸ USD inside, `Decimal` at the edges.

Mynth spells settled costs with eight decimals and estimates without trailing zeros;
SQLite would turn decimals into floats. So the ledger counts *units* of 10⁻⁸ USD.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from mynth_dagster.limits import MONEY_SCALE

UNITS_PER_USD = 10**MONEY_SCALE
UNITS_MAX = 2**63 - 1
"""What a 64-bit column of the ledger holds: about 92 billion USD."""


def units_from_usd(amount: Decimal | str | int) -> int:
    """
    An amount in USD as units of 10⁻⁸ USD.

    Raises:
        ValueError: Not a finite number, too large, or finer than eight decimals.
    """
    try:
        usd = Decimal(amount)
    except InvalidOperation:
        raise ValueError(f"{amount!r} is not an amount of money") from None
    if not usd.is_finite() or usd.adjusted() > MONEY_SCALE + 3:
        raise ValueError(f"{amount!r} is not an amount of money")
    units = usd * UNITS_PER_USD
    whole = units.to_integral_value()
    if units != whole:
        raise ValueError(f"{amount} USD is finer than eight decimals")
    if abs(whole) > UNITS_MAX:
        raise ValueError(f"{amount} USD is more than a ledger can hold")
    return int(whole)


def usd_from_units(units: int) -> Decimal:
    """Units of 10⁻⁸ USD as a decimal with eight places."""
    return Decimal(units).scaleb(-MONEY_SCALE)


def format_usd(units: int | None) -> str:
    """For people: at least two decimals, no other trailing zeros; `unknown` for None."""
    if units is None:
        return "unknown"
    text = f"{usd_from_units(units):f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals.ljust(2, '0')}"


def split_units(total: int, parts: int) -> list[int]:
    """
    A total divided over ``parts`` shares that differ by at most one unit and add up exactly.

    The first shares are the larger ones.
    """
    share, rest = divmod(total, parts)
    return [share + (index < rest) for index in range(parts)]
