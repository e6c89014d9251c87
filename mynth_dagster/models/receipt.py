"""What a table has cost, and what it may yet cost. Amounts in units of 10⁻⁸ USD."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mynth_dagster.models.transitions import FINAL, IntentState


@dataclass(frozen=True)
class Receipt:
    """
    The money of some rows, over all their generations.

    Every amount that was ever reserved is in exactly one of charged, refunded and open; what
    cannot be known yet is in unknown, at the most it may be.

    Args:
        quoted: What was expected of the requests that were sent.
        reserved: What Mynth held for the tasks it accepted, as it said or as was quoted.
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

_NEVER_HELD = frozenset({IntentState.WITHHELD, IntentState.REJECTED, IntentState.CLEARED})
_STILL_HELD = frozenset({IntentState.SENDING, IntentState.ACCEPTED})


@dataclass(frozen=True)
class MoneyGroup:
    """
    Sums over intents or further tasks that are alike.

    Args:
        state: Of the intents; None for further tasks of intents.
        is_cost_known: All of them have a known charge, or none of them has.
        held: Reserved as Mynth said, else as quoted.
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
    """What one group adds to a receipt."""
    if group.state in _NEVER_HELD:
        return Receipt(n_not_charged=group.n)
    base = Receipt(quoted=group.quoted, reserved=group.held, n_unpriced=group.n_unpriced)
    if group.state in _STILL_HELD:
        return base + Receipt(open=group.held)
    if not group.is_cost_known or (group.state is not None and group.state not in FINAL):
        return base + Receipt(unknown=group.held, n_unknown=group.n)
    return base + Receipt(charged=group.charged, refunded=group.refunded, n_charged=group.n_charged)
