"""
Money as whole numbers of 10⁻⁸ USD, and the two spellings the API uses for it.

No float ever holds an amount here, so sums are exact under any order of events.
"""

from __future__ import annotations

from decimal import Decimal

UNITS_PER_USD = 10**8


def units_of(text: str) -> int:
    """
    The units of a decimal string in USD.

    Raises:
        ValueError: The text is no finite number, or is finer than 10⁻⁸ USD.
    """
    try:
        units = Decimal(text) * UNITS_PER_USD
        whole = int(units)
    except (ArithmeticError, ValueError) as exc:
        raise ValueError(f"{text!r} is not an amount in USD") from exc
    if whole != units:
        raise ValueError(f"{text!r} is finer than 0.00000001 USD")
    return whole


def spell_settled(units: int) -> str:
    """Eight decimals, as settled costs are spelled: ``0.01250000``."""
    sign = "-" if units < 0 else ""
    whole, rest = divmod(abs(units), UNITS_PER_USD)
    return f"{sign}{whole}.{rest:08d}"


def spell_trimmed(units: int) -> str:
    """No trailing zeros, as estimates, balances and prices are spelled: ``0.0125``, ``12``."""
    return spell_settled(units).rstrip("0").rstrip(".")
