"""What a run may still spend: caps that are used up, and prices that a cap needs to know."""

from __future__ import annotations

from collections.abc import Sequence

from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.stop import RERUN, StopReason
from mynth_dagster.errors import PriceUnknownError
from mynth_dagster.ledger.claims import Claimed
from mynth_dagster.ledger.queries import PartitionRow
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.money import NOTHING, Exposure, format_usd

BUDGET_EXCEEDED = "budget_exceeded"


class Funds:
    """
    Which partitions of a run have no money left.

    Once a row does not fit, no later row of the same scope is tried: what is sent is always the
    beginning of the table, and the next run goes on behind it.
    """

    def __init__(self) -> None:
        self._closed: set[tuple[str | None, str | None]] = set()

    def close(self, claimed: Claimed, slice_: Slice) -> None:
        """A row of this partition did not fit."""
        whole_batch, window = (None, None), (slice_.window, None)
        scope = {Claimed.OVER_BATCH: whole_batch, Claimed.OVER_WINDOW: window}
        self._closed.add(scope.get(claimed, (slice_.window, slice_.fan_out)))

    def is_closed(self, window: str, fan_out: str) -> bool:
        """Whether nothing more may be sent into this partition."""
        if not self._closed:
            return False
        return not self._closed.isdisjoint({(None, None), (window, None), (window, fan_out)})


def require_prices(batch: Batch, quote: Quote) -> None:
    """
    A cap counts prices, so each has to be known, at least as an upper bound.

    Raises:
        PriceUnknownError: Names the models; nothing was sent.
    """
    if batch.budget.is_set and quote.total_units is None:
        unknown = {kind.model for kind in quote.n_requests if quote.prices[kind].units is None}
        raise PriceUnknownError(sorted(unknown), str(batch.budget))


def budget_reason(
    batch: Batch, rows: Sequence[PartitionRow], closed: Sequence[Slice], n_withheld: int
) -> StopReason:
    """Why a run ends that sent all that there was money for."""
    places = {(slice_.window, slice_.fan_out) for slice_ in closed}
    used = sum((r.exposure for r in rows if (r.window, r.fan_out) in places), NOTHING)
    return StopReason(
        BUDGET_EXCEEDED,
        f"The budget ({batch.budget}) is used up in {len(closed)} partitions: {_in_words(used)}. "
        f"{n_withheld} rows were not sent.",
        f"raise the budget, then {RERUN}",
    )


def _in_words(used: Exposure) -> str:
    return (
        f"{format_usd(used.spent)} charged, {format_usd(used.reserved)} reserved, "
        f"{format_usd(used.unknown)} unknown"
    )
