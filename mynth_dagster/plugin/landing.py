"""What a run looks at when a partition's tables are written: columns, pictures, sums, the audit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mynth_dagster.engine.download import Thumbnails, make_thumbnails
from mynth_dagster.engine.quote import quote_each
from mynth_dagster.engine.session import Session
from mynth_dagster.limits import THUMBNAILS_BUDGET_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.money import Receipt
from mynth_dagster.plugin import metadata
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.plugin.column_metadata import written_columns
from mynth_dagster.tables.audit import Audit, audit_slice
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import ResultsSummary
from mynth_dagster.tables.schemas import TASKS_SCHEMA
from mynth_dagster.tables.store import FAILURES, IMAGES, PROMPTS, TASKS, TableStore


@dataclass(frozen=True)
class Landed:
    """One collected partition."""

    summary: ResultsSummary
    receipt: Receipt
    audit: Audit
    schemas: Mapping[str, pa.Schema]
    thumbnails: Thumbnails

    def metadata(self, assets: BatchAssets, table: str) -> metadata.Metadata:
        """What the UI shows of it, of `images` or `failures`."""
        shown = (
            metadata.images_metadata(self.summary, self.receipt, self.thumbnails)
            if table == IMAGES
            else metadata.failures_metadata(self.summary)
        )
        columns = written_columns(
            table,
            self.schemas[table],
            assets.key,
            below_pictures=assets.has_pictures(table),
        )
        return {**shown, **columns}


class Landing:
    """Looks at partitions as they are written, one after the other."""

    def __init__(self, session: Session, assets: BatchAssets) -> None:
        self._session = session
        self._assets = assets
        self._store = TableStore(session.settings.root, assets.batch.name)
        self._until_s = session.clock.elapsed_s() + THUMBNAILS_BUDGET_S

    async def land(self, summary: ResultsSummary) -> Landed:
        """Look at one partition; its thumbnails are made now."""
        audit = await asyncio.to_thread(audit_slice, self._store, summary.slice)
        schemas = {
            table: await asyncio.to_thread(self._store.read_schema, table, summary.slice)
            for table in (IMAGES, FAILURES)
        }
        thumbnails = await make_thumbnails(
            self._session,
            self._assets.batch,
            summary.slice,
            summary.images[: self._assets.n_previews],
            budget_s=self._until_s - self._session.clock.elapsed_s(),
        )
        name = self._assets.batch.ledger_name
        money = self._session.ledger.money
        receipt = await asyncio.to_thread(money.receipt, name, [summary.slice])
        return Landed(summary, receipt, audit, schemas, thumbnails)


async def prompts_told(
    session: Session, assets: BatchAssets, written: Sequence[PromptsSummary]
) -> dict[Slice, metadata.Metadata]:
    """What the UI shows of prompt tables just written, with what sending them would cost."""
    store = TableStore(session.settings.root, assets.batch.name)
    quotes = await quote_each(session, assets.batch, [summary.slice for summary in written])
    told = {}
    for summary in written:
        schema = await asyncio.to_thread(store.read_schema, PROMPTS, summary.slice)
        told[summary.slice] = {
            **metadata.prompts_metadata(summary),
            **metadata.quote_metadata(*quotes[summary.slice]),
            **written_columns(PROMPTS, schema, assets.key),
        }
    return told


def tasks_told(assets: BatchAssets, summary: ResultsSummary) -> metadata.Metadata:
    """What the UI shows of a partition that was sent."""
    return {
        **metadata.tasks_metadata(summary),
        **written_columns(TASKS, TASKS_SCHEMA, assets.key),
    }


async def charged_by_window(
    session: Session, assets: BatchAssets, landed: Mapping[Slice, Landed]
) -> dict[str, int]:
    """What all partitions of the collected windows were charged, in units of 10⁻⁸ USD."""
    batch, ledger = assets.batch, session.ledger
    by_window: dict[str, list[Slice]] = {slice_.window: [] for slice_ in landed}
    for row in await asyncio.to_thread(ledger.read.partitions, batch.ledger_name):
        if row.window in by_window:
            by_window[row.window].append(batch.slice(row.window, row.fan_out))
    return {
        window: (await asyncio.to_thread(ledger.money.receipt, batch.ledger_name, slices)).charged
        for window, slices in by_window.items()
    }
