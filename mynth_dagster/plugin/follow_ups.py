"""What is asked of Mynth about the images of a batch, and the body that asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

import dagster as dg

from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import ConfigError
from mynth_dagster.followups.follow_ups import FollowUpWork, follow_up_images
from mynth_dagster.followups.tables import FollowUpSummary
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.money import budget_from_usd, format_usd, usd_from_units
from mynth_dagster.models.request import KINDS_BY_TABLE, FollowUpSettings, RatingLevel
from mynth_dagster.plugin.metadata import Metadata
from mynth_dagster.plugin.resource import MynthResource, Notices, run_watch
from mynth_dagster.plugin.run_options import RunsWishes


@dataclass(frozen=True)
class FollowUp:
    """
    One follow-up of each image of a batch, as an asset of its own: a paid task for each image.

    Args:
        table: `ratings`, `alt_texts` or `reviews`; the last part of the asset's key.
        levels: Own levels of ratings, mildest first; none: Mynth's sfw and nsfw.
        effort: Of reviews, `low` or `high`; None: as Mynth does.
        budget_usd: Caps in USD by `partition`, `window` and `batch`, beside those of the images;
            needs `prices_usd` of `image.rate`, `image.alt` or `image.review`.
        retries: How often a follow-up that failed is asked for again by itself.
        automatic: Whether the asset is requested, and paid for, whenever its images have landed.
            Dagster's sensor `default_automation_condition_sensor` does this; it is off until you
            switch it on.
    """

    table: str
    levels: Sequence[RatingLevel] = ()
    effort: str | None = None
    budget_usd: Mapping[str, Decimal | str] = field(default_factory=lambda: MappingProxyType({}))
    retries: int = 0
    automatic: bool = False

    def of(self, batch: Batch) -> FollowUpWork:
        """
        The follow-up of this batch's images.

        Raises:
            ConfigError: There is no such table, or a number is out of range.
        """
        if self.table not in KINDS_BY_TABLE:
            known = ", ".join(KINDS_BY_TABLE)
            raise ConfigError("follow_ups", f"{self.table!r} is none of {known}")
        asked = FollowUpSettings(KINDS_BY_TABLE[self.table], tuple(self.levels), self.effort)
        return FollowUpWork(batch, asked, budget_from_usd(self.budget_usd), self.retries)


def run_follow_up(
    context: dg.AssetExecutionContext,
    mynth: MynthResource,
    follow_up: FollowUpWork,
    slices: Sequence[Slice],
    wishes: RunsWishes,
    landed: dict[Slice, FollowUpSummary],
) -> RunProgress:
    """Ask, wait and write; what is done lands as it comes, whatever happens later."""
    stop, notices, progress = CancelToken(), Notices(), RunProgress()
    progress.on_quote = lambda plan, quote: notices.put(
        lambda: context.log.info(
            f"{plan.n_to_send} images to ask about, {format_usd(quote.total_units)}"
        )
    )

    async def work(session: Session) -> None:
        summaries = follow_up_images(
            session,
            follow_up,
            slices,
            submitter=context.run.run_id,
            stop=stop,
            progress=progress,
            options=await wishes.of(session, follow_up.ledger_name),
        )
        async for summary in summaries:
            landed[summary.slice] = summary

    mynth.run(work, stop=stop, notices=notices, watch=run_watch(context))
    return progress


def told_of(summary: FollowUpSummary) -> Metadata:
    """What the UI shows of one partition of `ratings`, `alt_texts` or `reviews`."""
    answers = {f"mynth/images_{answer}": n for answer, n in summary.by_answer.items()}
    return {
        "dagster/partition_row_count": summary.n_images,
        "dagster/uri": dg.MetadataValue.text(summary.uri),
        "mynth/answered": summary.n_answered,
        "mynth/states": dg.MetadataValue.json(summary.by_status),
        "mynth/charged_usd": float(usd_from_units(summary.charged_units)),
        **answers,
    }


def tables_of(follow_ups: Sequence[FollowUp]) -> tuple[str, ...]:
    """
    The tables of these follow-ups.

    Raises:
        ConfigError: One of them is asked for twice.
    """
    tables = tuple(follow_up.table for follow_up in follow_ups)
    if len(set(tables)) < len(tables):
        raise ConfigError("follow_ups", "each table at most once")
    return tables
