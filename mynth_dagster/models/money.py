"""
Exact money: integers of 10⁻⁸ USD inside, `Decimal` at the edges.

Mynth writes final costs with eight decimals and estimates without trailing zeros; SQLite would turn
decimals into floats. So the ledger counts *units* of 10⁻⁸ USD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import MONEY_SCALE
from mynth_dagster.models.transitions import FINAL, IntentState

UNITS_PER_USD = 10**MONEY_SCALE
UNITS_MAX = 2**63 - 1
"""The most that a 64-bit column of the ledger holds: about 92 billion USD."""


def units_from_usd(amount: Decimal | str | int) -> int:
    """
    Convert an amount in USD to units of 10⁻⁸ USD.

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
    """Convert units of 10⁻⁸ USD to a decimal with eight places."""
    return Decimal(units).scaleb(-MONEY_SCALE)


def format_usd(units: int | None) -> str:
    """Format for people: at least two decimals, no other trailing zeros; `unknown` for None."""
    if units is None:
        return "unknown"
    text = f"{usd_from_units(units):f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals.ljust(2, '0')}"


def split_units(total: int, parts: int) -> list[int]:
    """
    Divide a total into ``parts`` shares that differ by at most one unit and add up exactly.

    The first shares are the larger ones.
    """
    share, rest = divmod(total, parts)
    return [share + (index < rest) for index in range(parts)]


# The money of an intent in each state: spent, reserved, or unknown. One rule for caps and receipts.
#
# All amounts are units of 10⁻⁸ USD.


@dataclass(frozen=True)
class Exposure:
    """
    Money that a cap has to count.

    Args:
        spent: Charged, as Mynth reports.
        reserved: Held by Mynth, or about to be.
        unknown: The most that tasks of unknown fate or cost may have taken.
    """

    spent: int = 0
    reserved: int = 0
    unknown: int = 0

    def __add__(self, other: Exposure) -> Exposure:
        return Exposure(
            self.spent + other.spent,
            self.reserved + other.reserved,
            self.unknown + other.unknown,
        )

    def __sub__(self, other: Exposure) -> Exposure:
        return self + Exposure(-other.spent, -other.reserved, -other.unknown)

    @property
    def total(self) -> int:
        return self.spent + self.reserved + self.unknown


NOTHING = Exposure()

_FREE = frozenset({IntentState.WITHHELD, IntentState.REJECTED, IntentState.NOT_ACCEPTED})
_HELD_BY_MYNTH = frozenset({IntentState.SENDING, IntentState.ACCEPTED})


def exposure_of(
    state: IntentState,
    *,
    quoted_units: int | None,
    reserved_units: int | None,
    charged_units: int | None,
) -> Exposure:
    """Return an intent's exposure; an amount that was not reported counts as nothing."""
    held = (quoted_units if reserved_units is None else reserved_units) or 0
    if state in _FREE:
        return NOTHING
    if state in _HELD_BY_MYNTH:
        return Exposure(reserved=held)
    if state in FINAL and charged_units is not None:
        return Exposure(spent=charged_units)
    return Exposure(unknown=held)


def exposure_of_surplus(held_units: int | None, charged_units: int | None) -> Exposure:
    """Return a further task's exposure: its charge, until then the most that it may be."""
    if charged_units is not None:
        return Exposure(spent=charged_units)
    return Exposure(unknown=held_units or 0)


# Caps on money, and whether one more request fits under them. Amounts in units of 10⁻⁸ USD.


class Scope(str, Enum):
    """The scope of a cap."""

    PARTITION = "partition"
    WINDOW = "window"
    BATCH = "batch"


@dataclass(frozen=True)
class Budget:
    """
    The most that may be spent, reserved and unknown together; None means no cap.

    Args:
        partition_units: In each partition.
        window_units: In each time window, over all its partitions.
        batch_units: In the whole batch, over all its windows.
    """

    partition_units: int | None = None
    window_units: int | None = None
    batch_units: int | None = None

    @property
    def is_set(self) -> bool:
        return any(cap is not None for cap in self._caps.values())

    @property
    def _caps(self) -> dict[Scope, int | None]:
        return {
            Scope.PARTITION: self.partition_units,
            Scope.WINDOW: self.window_units,
            Scope.BATCH: self.batch_units,
        }

    def cap(self, scope: Scope) -> int | None:
        """Return the cap of one scope; None if there is none."""
        return self._caps[scope]

    def exceeded(self, used: dict[Scope, Exposure], price_units: int) -> Scope | None:
        """Return the narrowest scope in which a request of this price does not fit any more."""
        for scope, cap in self._caps.items():
            if cap is not None and used[scope].total + price_units > cap:
                return scope
        return None

    def __str__(self) -> str:
        caps = [f"{format_usd(cap)} a {scope.value}" for scope, cap in self._caps.items() if cap]
        return ", ".join(caps) or "none"


NO_BUDGET = Budget()


def budget_from_usd(amounts: Mapping[Any, Decimal | str]) -> Budget:
    """
    Make a budget of caps in USD by scope: `partition`, `window`, `batch`.

    Raises:
        ConfigError: Another name, or not an amount of money above zero.
    """
    scopes = [scope.value for scope in Scope]
    units: dict[str, int] = {}
    for name, amount in amounts.items():
        if name not in scopes:
            raise ConfigError("budget_usd", f"{name!r} is none of {', '.join(scopes)}")
        try:
            units[f"{name}_units"] = units_from_usd(amount)
        except ValueError as error:
            raise ConfigError(f"budget_usd.{name}", str(error)) from None
        if units[f"{name}_units"] <= 0:
            raise ConfigError(f"budget_usd.{name}", f"{amount} is not above zero")
    return Budget(**units)


# The cost of a table, and what it may yet cost. Amounts in units of 10⁻⁸ USD.


@dataclass(frozen=True)
class Receipt:
    """
    The money of some rows, over all their generations.

    Every amount that was ever reserved is in exactly one of charged, refunded and open; what
    cannot be known yet is in unknown, at the most it may be.

    Args:
        quoted: What was expected of the requests that were sent.
        reserved: What Mynth held for the tasks it accepted, as it reported or as was quoted.
        charged: What finished tasks cost.
        refunded: Reserved for tasks that cost less, or nothing.
        open: Held for tasks that are not finished, or are just being sent.
        unknown: The most that rows of unknown outcome or cost may have taken.
        n_charged: Tasks with a charge above zero.
        n_not_charged: Requests for which nothing was ever held: refused, withheld, not accepted.
        n_unknown: Tasks and requests behind `unknown`.
        n_unpriced: Requests whose price was not known when they were sent.
    """

    quoted: int = 0
    reserved: int = 0
    charged: int = 0
    refunded: int = 0
    open: int = 0
    unknown: int = 0
    n_charged: int = 0
    n_not_charged: int = 0
    n_unknown: int = 0
    n_unpriced: int = 0

    def __add__(self, other: Receipt) -> Receipt:
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
        }
        return Receipt(**sums)


NO_MONEY = Receipt()

_NEVER_HELD = frozenset({IntentState.WITHHELD, IntentState.REJECTED, IntentState.NOT_ACCEPTED})
_STILL_HELD = frozenset({IntentState.SENDING, IntentState.ACCEPTED})


@dataclass(frozen=True)
class MoneyGroup:
    """
    Sums over intents or further tasks that are alike.

    Args:
        state: Of the intents; None for further tasks of intents.
        is_cost_known: All of them have a known charge, or none of them has.
        held: Reserved as Mynth reported, else as quoted.
        refunded: Over those that cost less than was held.
    """

    state: IntentState | None
    is_cost_known: bool
    n: int
    n_unpriced: int
    n_charged: int
    quoted: int
    held: int
    charged: int
    refunded: int


def receipt_of(group: MoneyGroup) -> Receipt:
    """Return what one group adds to a receipt."""
    if group.state in _NEVER_HELD:
        return Receipt(n_not_charged=group.n)
    base = Receipt(quoted=group.quoted, reserved=group.held, n_unpriced=group.n_unpriced)
    if group.state in _STILL_HELD:
        return base + Receipt(open=group.held)
    if not group.is_cost_known or (group.state is not None and group.state not in FINAL):
        return base + Receipt(unknown=group.held, n_unknown=group.n)
    return base + Receipt(charged=group.charged, refunded=group.refunded, n_charged=group.n_charged)
