"""
What an intent's money is now: spent, reserved, or not known. One rule for caps and receipts.

All amounts are units of 10⁻⁸ USD.
"""

from __future__ import annotations

from dataclasses import dataclass

from mynth_dagster.models.transitions import FINAL, IntentState


@dataclass(frozen=True)
class Exposure:
    """
    Money that a cap has to count.

    Args:
        spent: Charged, as Mynth says.
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

_FREE = frozenset({IntentState.WITHHELD, IntentState.REJECTED, IntentState.CLEARED})
_HELD_BY_MYNTH = frozenset({IntentState.SENDING, IntentState.ACCEPTED})


def exposure_of(
    state: IntentState,
    *,
    quoted_units: int | None,
    reserved_units: int | None,
    charged_units: int | None,
) -> Exposure:
    """An intent's exposure; an amount that nobody told counts as nothing."""
    held = (quoted_units if reserved_units is None else reserved_units) or 0
    if state in _FREE:
        return NOTHING
    if state in _HELD_BY_MYNTH:
        return Exposure(reserved=held)
    if state in FINAL and charged_units is not None:
        return Exposure(spent=charged_units)
    return Exposure(unknown=held)


def exposure_of_surplus(held_units: int | None, charged_units: int | None) -> Exposure:
    """A further task of an intent: what it was charged, until then the most it may be."""
    if charged_units is not None:
        return Exposure(spent=charged_units)
    return Exposure(unknown=held_units or 0)
