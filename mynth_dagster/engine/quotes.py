"""What sending each of several partitions would cost; asks only for what is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mynth_dagster.engine.asking import NOTHING_SPECIAL, Asking
from mynth_dagster.engine.plan import PriceClass
from mynth_dagster.engine.quote import Quote, build_quote
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.survey import Survey, survey
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.request import Wish


async def quote_each(
    session: Session, batch: Batch, slices: Sequence[Slice], asking: Asking = NOTHING_SPECIAL
) -> dict[Slice, tuple[Survey, Quote]]:
    """A quote for each partition; each class of price is asked for once over all of them."""
    surveys = {slice_: await survey(session, batch, [slice_], asking) for slice_ in slices}
    samples: dict[PriceClass, Wish] = {}
    n_requests: Counter[PriceClass] = Counter()
    for surveyed in surveys.values():
        samples = {**surveyed.samples, **samples}
        n_requests += surveyed.n_requests
    quote = await build_quote(session.client, samples, n_requests, batch.prices_usd)
    return {slice_: (surveyed, _part_of(quote, surveyed)) for slice_, surveyed in surveys.items()}


def _part_of(quote: Quote, surveyed: Survey) -> Quote:
    return Quote(quote.prices, surveyed.n_requests, quote.notes if surveyed.n_to_send else ())
