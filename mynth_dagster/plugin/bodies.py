"""
What the assets do: plain functions of a context, a resource and a batch.

Bodies are generators, never coroutines: on cancel a coroutine gets `GeneratorExit`, in which
nothing can be awaited, and paid answers in flight would be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from mynth_dagster.engine.auto_resubmit import NOT_PREPARED
from mynth_dagster.engine.collect import write_tasks
from mynth_dagster.engine.download import FilesReport, keep_files
from mynth_dagster.engine.plan import survey
from mynth_dagster.engine.reconcile import Waiting, wait_until_settled
from mynth_dagster.engine.run import SubmitReport, collect, prepare, submit
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.engine.submit import SubmitCounts
from mynth_dagster.errors import RunStoppedError
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.money import format_usd
from mynth_dagster.plugin import checks, metadata
from mynth_dagster.plugin.asking import wishes_of
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.bridge import Notices, run_watch
from mynth_dagster.plugin.inspections import Inspect, run_inspection, told_of
from mynth_dagster.plugin.landing import (
    Landed,
    Landing,
    charged_by_window,
    prompts_told,
    tasks_told,
)
from mynth_dagster.plugin.part_way import later, recording_part_way, will_send
from mynth_dagster.plugin.rating_check import content_rated
from mynth_dagster.plugin.recording import record_all
from mynth_dagster.plugin.resource import MynthResource
from mynth_dagster.tables.inspection_tables import InspectionSummary
from mynth_dagster.tables.prompts import PromptsSummary

Result = dg.MaterializeResult[Any] | dg.AssetCheckResult


def prepare_prompts(
    context: dg.AssetExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> Iterator[Result]:
    """Check, complete and price the prompts of the run's partitions; spends nothing."""
    slices = assets.partitions.in_run(context)
    done: dict[Slice, metadata.Metadata] = {}
    summaries: list[PromptsSummary] = []

    async def work(session: Session) -> None:
        for window in sorted({slice_.window for slice_ in slices}):
            wanted = [slice_ for slice_ in slices if slice_.window == window]
            source = await asyncio.to_thread(assets.open_window, window)
            written = await prepare(session, assets.batch, source, window=window, wanted=wanted)
            summaries.extend(written)
            done.update(await prompts_told(session, assets, written))

    def judge() -> list[dg.AssetCheckResult]:
        return [checks.prompts_valid(assets.key("prompts"), summaries, assets.checks)]

    tables = {assets.key("prompts"): done}
    waits = will_send(context, assets)
    on_outage = later(mynth, assets, slices, code=NOT_PREPARED) if waits else None
    with recording_part_way(context, assets, tables, slices, judge, on_outage=on_outage):
        mynth.run(work)
    yield from record_all(context, assets.partitions, tables, checks=judge())


def submit_tasks(
    context: dg.AssetExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> Iterator[Result]:
    """Send what is missing in the run's partitions."""
    slices, stop, notices = assets.partitions.in_run(context), StopSwitch(), Notices()
    batch, done, counts = assets.batch, dict[Slice, metadata.Metadata](), SubmitCounts()
    wishes = wishes_of(context)

    async def work(session: Session) -> SubmitReport:
        report = await submit(
            session,
            batch,
            slices,
            submitter=context.run.run_id,
            stop=stop,
            asking=await wishes.of(session, batch),
            counts=counts,
            on_quote=lambda surveyed, quote: notices.put(
                lambda: context.log.info(
                    f"{surveyed.n_to_send} rows to send, {format_usd(quote.total_units)}"
                )
            ),
        )
        for slice_ in slices:
            if await _is_sent(session, batch, slice_, report):
                done[slice_] = tasks_told(assets, await write_tasks(session, batch, slice_))
        return report

    tables = {assets.key("tasks"): done}
    on_outage = None if wishes.asking.prompt_ids else later(mynth, assets, slices)
    with recording_part_way(
        context,
        assets,
        tables,
        slices,
        counts=counts,
        on_outage=on_outage,
        then=wishes.how_to_go_on,
    ):
        report = mynth.run(work, stop=stop, notices=notices, watch=run_watch(context))
        _require_all_sent(report, done, slices)
    told = metadata.submission_metadata(report)
    context.add_output_metadata(told)
    yield from record_all(context, assets.partitions, tables)


def collect_results(
    context: dg.AssetExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> Iterator[Result]:
    """Wait until the run's partitions are settled, then write their tables."""
    slices, stop, notices = assets.partitions.in_run(context), StopSwitch(), Notices()
    batch, landed, charged = assets.batch, dict[Slice, Landed](), dict[str, int]()

    async def work(session: Session) -> None:
        await wait_until_settled(
            session,
            batch,
            slices,
            stop=stop,
            on_round=lambda waiting: notices.put(lambda: _observe(context, assets, waiting)),
        )
        landing = Landing(session, assets)
        try:
            async for summary in collect(session, batch, slices, collector=context.run.run_id):
                landed[summary.slice] = await landing.land(summary)
        finally:
            charged.update(await charged_by_window(session, assets, landed))

    def judge() -> list[dg.AssetCheckResult]:
        return _judged(assets, landed, charged)

    tables: dict[dg.AssetKey, dict[Slice, metadata.Metadata]] = {
        assets.key("images"): {},
        assets.key("failures"): {},
    }
    with recording_part_way(context, assets, tables, slices, judge):
        try:
            mynth.run(work, stop=stop, notices=notices, watch=run_watch(context))
        finally:
            for slice_, one in landed.items():
                _observe_tasks(context, assets, one)
                for table in ("images", "failures"):
                    tables[assets.key(table)][slice_] = one.metadata(assets, table)
    yield from record_all(context, assets.partitions, tables, checks=judge())


def _judged(
    assets: BatchAssets, landed: Mapping[Slice, Landed], charged: Mapping[str, int]
) -> list[dg.AssetCheckResult]:
    """The checks of a collection."""
    images, failures, limits = assets.key("images"), assets.key("failures"), assets.checks
    summaries = [one.summary for one in landed.values()]
    results = [
        checks.accounted_for(images, {slice_: one.audit for slice_, one in landed.items()}),
        checks.failures_few(failures, summaries, limits),
        checks.nothing_open(failures, summaries),
    ]
    if limits.budget_usd_per_window is not None:
        results.append(checks.within_budget(images, charged, limits))
    if assets.batch.defaults.rating is not None:
        forbidden, share_warn = limits.forbidden_levels, limits.unrated_share_warn
        results.append(content_rated(images, summaries, forbidden, share_warn))
    return results


def keep_image_files(
    context: dg.AssetExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> Iterator[Result]:
    """Download what is missing of the files of the run's partitions."""
    slices, stop = assets.partitions.in_run(context), StopSwitch()
    kept: list[FilesReport] = []
    done: dict[Slice, metadata.Metadata] = {}

    async def work(session: Session) -> None:
        for slice_ in slices:
            kept.append(await keep_files(session, assets.batch, slice_, stop=stop))
            done[slice_] = metadata.files_metadata(kept[-1])

    def judge() -> list[dg.AssetCheckResult]:
        summaries = [report.summary for report in kept]
        return [checks.files_kept(assets.key(FILES), summaries, assets.checks)]

    tables = {assets.key(FILES): done}
    with recording_part_way(context, assets, tables, slices, judge):
        mynth.run(work, stop=stop, watch=run_watch(context))
    yield from record_all(context, assets.partitions, tables, checks=judge())


def ask_about_images(
    context: dg.AssetExecutionContext,
    mynth: MynthResource,
    assets: BatchAssets,
    asked: Inspect,
) -> Iterator[Result]:
    """Ask what was not asked yet about the images of the run's partitions."""
    slices, batch = assets.partitions.in_run(context), asked.of(assets.batch)
    wishes = wishes_of(context)
    landed: dict[Slice, InspectionSummary] = {}
    tables: dict[dg.AssetKey, dict[Slice, metadata.Metadata]] = {assets.key(asked.table): {}}
    counts, then = SubmitCounts(), wishes.how_to_go_on
    with recording_part_way(context, assets, tables, slices, counts=counts, then=then):
        try:
            progress = run_inspection(context, mynth, batch, slices, wishes, landed)
        finally:
            for slice_, summary in landed.items():
                tables[assets.key(asked.table)][slice_] = told_of(summary)
        if progress.report is not None:
            _require_all_sent(progress.report, landed, slices)
    yield from record_all(context, assets.partitions, tables)


_BODIES = {
    "prepare": prepare_prompts,
    "submit": submit_tasks,
    "collect": collect_results,
    "download": keep_image_files,
}


def execute(
    context: dg.AssetExecutionContext, phase: str, mynth: MynthResource, assets: BatchAssets
) -> Iterator[Result]:
    """The body of `prepare`, `submit`, `collect`, `download`, or of a look at the images."""
    asked = assets.inspection(phase)
    if asked is not None:
        yield from ask_about_images(context, mynth, assets, asked)
    else:
        yield from _BODIES[phase](context, mynth, assets)


async def _is_sent(session: Session, batch: Batch, slice_: Slice, report: SubmitReport) -> bool:
    """Whether nothing is left to send in a partition."""
    if report.stopped is None:
        return True
    return (await survey(session, batch, [slice_])).n_to_send == 0


def _require_all_sent(
    report: SubmitReport, done: Mapping[Slice, object], slices: Sequence[Slice]
) -> None:
    stopped = report.stopped
    if stopped is None:
        return
    left = len(slices) - len(done)
    raise RunStoppedError(
        stopped.code,
        f"{stopped.message} {report.counts.n_accepted} tasks were created; "
        f"{left} of {len(slices)} partitions have rows left to send.",
        money=f"{format_usd(report.counts.reserved_units)} reserved by this run, nothing for "
        "the rows that are left.",
        next_step=stopped.next_step,
    )


def _observe_tasks(context: dg.AssetExecutionContext, assets: BatchAssets, landed: Landed) -> None:
    """What is true of `tasks` now that they are collected; its own run told what was sent."""
    observation = dg.AssetObservation(
        assets.key("tasks"),
        partition=assets.partitions.key_of(landed.summary.slice),
        metadata=metadata.tasks_metadata(landed.summary),
    )
    context.log_event(observation)


def _observe(context: dg.AssetExecutionContext, assets: BatchAssets, waiting: Waiting) -> None:
    """Progress of the waiting, as numbers that plot."""
    progress = {
        "mynth/pending": waiting.n_pending,
        "mynth/finished_this_round": waiting.n_finished,
        "mynth/stalled": waiting.n_stalled,
    }
    if waiting.n_finished or waiting.n_pending:
        context.log_event(dg.AssetObservation(assets.key("tasks"), metadata=progress))
