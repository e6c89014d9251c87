"""
The bodies of the assets: plain functions of a context, a resource and a batch.

Bodies are generators, never coroutines: on cancel a coroutine gets `GeneratorExit`, in which
nothing can be awaited, and paid responses in flight would be lost.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import pyarrow as pa

from mynth_dagster.engine.auto_resubmit import NOT_PREPARED, leave_to_sensor
from mynth_dagster.engine.collect import write_tasks
from mynth_dagster.engine.download import FilesReport, Thumbnails, keep_files, make_thumbnails
from mynth_dagster.engine.plan import build_plan
from mynth_dagster.engine.quote import quote_each
from mynth_dagster.engine.reconcile import Progress, wait_until_idle
from mynth_dagster.engine.run import RunProgress, SubmitReport, collect, prepare, submit
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken, StopReason, passing_reason
from mynth_dagster.engine.submit import SubmitCounts
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.errors import MynthError, name_some
from mynth_dagster.followups.follow_ups import FollowUpWork, follow_up_images
from mynth_dagster.limits import THUMBNAILS_BUDGET_S
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.batch_settings import FollowUp
from mynth_dagster.models.money import Receipt, format_usd
from mynth_dagster.plugin import checks, metadata
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.checks import ACCOUNTED_FOR, content_rated
from mynth_dagster.plugin.failing import NOTHING_SENT, in_words, is_passing
from mynth_dagster.plugin.metadata import Metadata, written_columns
from mynth_dagster.plugin.partitions import BatchPartitions
from mynth_dagster.plugin.resource import MynthResource, Notices, run_watch
from mynth_dagster.plugin.run_options import options_of_run
from mynth_dagster.tables.audit import Audit, audit_slice
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import ResultsSummary
from mynth_dagster.tables.schemas import schema_of
from mynth_dagster.tables.store import FAILURES, IMAGES, PROMPTS, TASKS, TableStore

# Recording in Dagster which partitions of a run are done.
#
# When all are done: metadata per partition, and one result per asset. When some are left: events
# for the finished ones and for the checks, then a failure. Never both, since that records
# partitions and checks twice.
#
# What a run has made although it was not selected is recorded by events as well: tables that are
# written together are never reported apart.


Done = Mapping[Slice, Metadata]
DATA_DIGEST = "mynth/data_digest"
"""In the metadata of a table: what its rows hash to. Dagster's data version is made of it."""
DATA_VERSION_TAG = "dagster/data_version"


def record_all(
    context: dg.AssetExecutionContext,
    partitions: BatchPartitions,
    done: Mapping[dg.AssetKey, Done],
    *,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Yield the results of a run that finished every partition it was for."""
    selected, wanted = context.selected_asset_keys, context.selected_asset_check_keys
    asked = [check for check in checks if _key_of(check) in wanted]
    besides = {asset: by_slice for asset, by_slice in done.items() if asset not in selected}
    not_asked = [check for check in checks if _key_of(check) not in wanted]
    record_some(context, partitions, besides, checks=not_asked)
    for asset, by_slice in done.items():
        of_asset = [check for check in asked if check.asset_key == asset]
        if asset in besides:
            yield from of_asset
            continue
        for slice_, values in by_slice.items():
            key = partitions.key_of(slice_)
            if key is not None:
                context.add_asset_metadata(values, asset_key=asset, partition_key=key)
        whole = _of_whole(next(iter(by_slice.values()))) if partitions.definition is None else None
        yield dg.MaterializeResult(
            asset_key=asset,
            metadata=whole,
            check_results=of_asset,
            data_version=_data_version(by_slice.values()),
        )


def record_some(
    context: dg.AssetExecutionContext,
    partitions: BatchPartitions,
    done: Mapping[dg.AssetKey, Done],
    *,
    checks: Sequence[dg.AssetCheckResult] = (),
) -> None:
    """Log events for finished partitions and for checks that have no result."""
    for asset, by_slice in done.items():
        for slice_, values in by_slice.items():
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=asset,
                    partition=partitions.key_of(slice_),
                    metadata=values if partitions.definition else _of_whole(values),
                    tags={**partitions.tags_of(slice_), **_version_tag(values)},
                )
            )

    for check in checks:
        key = _key_of(check)
        evaluation = dg.AssetCheckEvaluation(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=check.passed,
            metadata=check.metadata,
            severity=check.severity,
            blocking=context.assets_def.get_spec_for_check_key(key).blocking,
        )
        context.log_event(evaluation)


def _data_version(recorded: Iterable[Metadata]) -> dg.DataVersion | None:
    """
    Return the version of what a run made: of its partition, or of all of them together.

    Dagster takes one for a run. So a partition that stayed as it was is new where another of its
    run changed: what depends on it is run once too often, and never too seldom.
    """
    digests = [str(values.get(DATA_DIGEST, "")) for values in recorded]
    if not all(digests):
        return None
    if len(digests) > 1:
        digests = [hashlib.sha256(" ".join(digests).encode()).hexdigest()]
    return dg.DataVersion(digests[0][:16]) if digests else None


def _version_tag(values: Metadata) -> dict[str, str]:
    version = _data_version([values])
    return {} if version is None else {DATA_VERSION_TAG: version.value}


def _key_of(check: dg.AssetCheckResult) -> dg.AssetCheckKey:
    assert check.asset_key is not None
    assert check.check_name is not None
    return dg.AssetCheckKey(check.asset_key, check.check_name)


def _of_whole(metadata: Metadata) -> Metadata:
    """An unpartitioned asset's rows are all of its rows."""
    names = {"dagster/partition_row_count": "dagster/row_count"}
    return {names.get(name, name): value for name, value in metadata.items()}


# The end of a run that failed before all of its partitions were recorded.


NOT_LANDED = "mynth/not_landed"
"""In the metadata of a check: partitions that its run failed before."""

_ERROR, _WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@contextmanager
def recording_part_way(
    context: dg.AssetExecutionContext,
    assets: BatchAssets,
    tables: Mapping[dg.AssetKey, Mapping[Slice, Metadata]],
    slices: Sequence[Slice],
    judge: Callable[[], Sequence[dg.AssetCheckResult]] = list,
    *,
    counts: SubmitCounts | None = None,
    on_outage: Callable[[StopReason], None] | None = None,
    then: str = "",
) -> Iterator[None]:
    """
    If the work ends early, record the finished partitions, and judge, before the run fails.

    Dagster may retry a passing failure before any paid request.

    Args:
        counts: Of the paid requests; None in work that is free.
        on_outage: Called if Mynth was unreachable, so that the sensor goes on later.
        then: Added to the failure's message.
    """
    try:
        yield
    except BaseException as error:
        results = judged_part_way(judge(), tables, slices)
        record_some(context, assets.partitions, tables, checks=results)
        if not isinstance(error, MynthError):
            raise
        reason = passing_reason(error)
        if reason is not None and on_outage is not None:
            on_outage(reason)
        is_resumed = (
            reason is not None and on_outage is not None and assets.batch.spending.auto_resubmit
        )
        next_step = _SENSOR_GOES_ON if is_resumed else ""
        raise dg.Failure(
            in_words(error, money=_money(counts), next_step=next_step) + then,
            allow_retries=is_passing(error) and (counts is None or counts.n_posts == 0),
        ) from error


_SENSOR_GOES_ON = "the completion sensor starts a run that goes on, some minutes later."


def _money(counts: SubmitCounts | None) -> str:
    if counts is None or not counts.n_posts:
        return NOTHING_SENT
    reserved = format_usd(counts.reserved_units)
    return f"{counts.n_accepted} tasks were created, {reserved} reserved by this run."


def later(
    mynth: MynthResource, assets: BatchAssets, slices: Sequence[Slice], *, code: str = ""
) -> Callable[[StopReason], None]:
    """Return a function that leaves these partitions to the sensor, under ``code`` if given."""

    def leave(reason: StopReason) -> None:
        stop = replace(reason, code=code or reason.code)
        asyncio.run(leave_to_sensor(mynth.engine_settings(), assets.batch, slices, stop))

    return leave


def will_send(context: dg.AssetExecutionContext, assets: BatchAssets) -> bool:
    """Whether this run goes on to send all rows; of a look at prompts nobody may be made to pay."""
    step, steps = f"{assets.batch.name}__submit", context.run.step_keys_to_execute
    if steps is not None and step not in steps:
        return False
    if assets.key("tasks") not in context.job_def.asset_layer.executable_asset_keys:
        return False
    ops: Any = context.run.run_config.get("ops", {})
    return not (ops.get(step, {}).get("config") or {}).get("prompt_ids")


def judged_part_way(
    results: Iterable[dg.AssetCheckResult],
    done: Mapping[dg.AssetKey, Mapping[Slice, Any]],
    slices: Sequence[Slice],
) -> list[dg.AssetCheckResult]:
    """Return results over the finished partitions of a run that was for these."""
    judged = []
    for result in results:
        assert result.asset_key is not None
        landed = done[result.asset_key]
        left = [slice_ for slice_ in slices if slice_ not in landed]
        judged.append(_not_a_pass(result, left, is_any_landed=bool(landed)) if left else result)
    return judged


def _not_a_pass(
    result: dg.AssetCheckResult, left: Sequence[Slice], *, is_any_landed: bool
) -> dg.AssetCheckResult:
    """
    Make a result that does not pass: the blocking check fails, any other warns at least.

    Its figures are of the recorded partitions; without any there are none.
    """
    has_failed = not result.passed and result.severity is _ERROR
    is_error = has_failed or result.check_name == ACCOUNTED_FOR
    named = name_some([slice_.key for slice_ in left])
    return dg.AssetCheckResult(
        check_name=result.check_name,
        asset_key=result.asset_key,
        passed=False,
        severity=_ERROR if is_error else _WARN,
        metadata={**(result.metadata if is_any_landed else {}), NOT_LANDED: named},
    )


# What a run reads when a partition's tables are written: columns, pictures, sums, the audit.


@dataclass(frozen=True)
class Landed:
    """One collected partition."""

    summary: ResultsSummary
    receipt: Receipt
    audit: Audit
    schemas: Mapping[str, pa.Schema]
    thumbnails: Thumbnails
    digests: Mapping[str, str]

    def metadata(self, assets: BatchAssets, table: str) -> metadata.Metadata:
        """Return what the UI shows of the partition, of `images` or `failures`."""
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
        return {**shown, **columns, DATA_DIGEST: self.digests[table]}


class Landing:
    """Gathers figures, pictures and verdicts of partitions as they are written."""

    def __init__(self, session: Session, assets: BatchAssets) -> None:
        self._session = session
        self._assets = assets
        self._store = TableStore(session.settings.root, assets.batch.name)
        self._until_s = session.clock.elapsed_s() + THUMBNAILS_BUDGET_S

    async def land(self, summary: ResultsSummary) -> Landed:
        """Read one partition's tables and make its thumbnails."""
        audit = await asyncio.to_thread(audit_slice, self._store, summary.slice)
        schemas = {
            table: await asyncio.to_thread(self._store.read_schema, table, summary.slice)
            for table in (IMAGES, FAILURES)
        }
        digests = {
            table: await asyncio.to_thread(self._store.data_digest, table, summary.slice)
            for table in (IMAGES, FAILURES)
        }
        thumbnails = await make_thumbnails(
            self._session,
            self._assets.batch,
            summary.slice,
            summary.images[: self._assets.batch.delivery.previews],
            budget_s=self._until_s - self._session.clock.elapsed_s(),
        )
        name = self._assets.batch.ledger_name
        read = self._session.ledger.read
        receipt = await asyncio.to_thread(read.receipt, name, [summary.slice])
        return Landed(summary, receipt, audit, schemas, thumbnails, digests)


async def _prompts_shown(
    session: Session, assets: BatchAssets, written: Sequence[PromptsSummary]
) -> dict[Slice, metadata.Metadata]:
    """Return what the UI shows of prompt tables just written, with the price of sending them."""
    store = TableStore(session.settings.root, assets.batch.name)
    quotes = await quote_each(
        session, ImageWork(assets.batch), [summary.slice for summary in written]
    )
    by_slice = {}
    for summary in written:
        schema = await asyncio.to_thread(store.read_schema, PROMPTS, summary.slice)
        by_slice[summary.slice] = {
            **metadata.prompts_metadata(summary),
            **metadata.quote_metadata(*quotes[summary.slice]),
            **written_columns(PROMPTS, schema, assets.key),
            DATA_DIGEST: await asyncio.to_thread(store.data_digest, PROMPTS, summary.slice),
        }
    return by_slice


def _tasks_shown(assets: BatchAssets, summary: ResultsSummary) -> metadata.Metadata:
    """Return what the UI shows of a partition that was sent."""
    return {
        **metadata.tasks_metadata(summary),
        **written_columns(TASKS, schema_of(TASKS), assets.key),
    }


async def charged_by_window(
    session: Session, assets: BatchAssets, landed: Mapping[Slice, Landed]
) -> dict[str, int]:
    """Add up the charges of all partitions of the collected windows, in units of 10⁻⁸ USD."""
    batch, ledger = assets.batch, session.ledger
    by_window: dict[str, list[Slice]] = {slice_.window: [] for slice_ in landed}
    for row in await asyncio.to_thread(ledger.read.partitions, batch.ledger_name):
        if row.window in by_window:
            by_window[row.window].append(batch.slice(row.window, row.fan_out))
    return {
        window: (await asyncio.to_thread(ledger.read.receipt, batch.ledger_name, slices)).charged
        for window, slices in by_window.items()
    }


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
            done.update(await _prompts_shown(session, assets, written))

    def judge() -> list[dg.AssetCheckResult]:
        return [checks.prompts_valid(assets.key("prompts"), summaries, assets.checks)]

    tables = {assets.key("prompts"): done}
    waits = will_send(context, assets)
    on_outage = later(mynth, assets, slices, code=NOT_PREPARED) if waits else None
    with recording_part_way(context, assets, tables, slices, judge, on_outage=on_outage):
        mynth.in_session(work)
    yield from record_all(context, assets.partitions, tables, checks=judge())


def submit_tasks(
    context: dg.AssetExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> Iterator[Result]:
    """Send what is missing in the run's partitions."""
    slices, stop, notices = assets.partitions.in_run(context), CancelToken(), Notices()
    batch, done, counts = assets.batch, dict[Slice, metadata.Metadata](), SubmitCounts()
    of_run = options_of_run(context)

    async def work(session: Session) -> SubmitReport:
        store = TableStore(session.settings.root, batch.name)
        report = await submit(
            session,
            ImageWork(batch),
            slices,
            submitter=context.run.run_id,
            stop=stop,
            options=await of_run.of(session, batch.ledger_name),
            counts=counts,
            on_quote=lambda plan, quote: notices.put(
                lambda: context.log.info(
                    f"{plan.n_to_send} rows to send, {format_usd(quote.total_units)}"
                )
            ),
        )
        for slice_ in slices:
            if await _is_sent(session, batch, slice_, report):
                summary = await write_tasks(session, batch, slice_)
                digest = await asyncio.to_thread(_sent_digest, store, slice_)
                done[slice_] = {**_tasks_shown(assets, summary), DATA_DIGEST: digest}
        return report

    tables = {assets.key("tasks"): done}
    on_outage = None if of_run.options.prompt_ids else later(mynth, assets, slices)
    with recording_part_way(
        context,
        assets,
        tables,
        slices,
        counts=counts,
        on_outage=on_outage,
        then=of_run.how_to_go_on,
    ):
        report = mynth.in_session(work, stop=stop, notices=notices, watch=run_watch(context))
        report.require_all_sent(_left(slices, done))
    context.add_output_metadata(metadata.submission_metadata(report))
    yield from record_all(context, assets.partitions, tables)


def collect_results(
    context: dg.AssetExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> Iterator[Result]:
    """Wait until the run's partitions are idle, then write their tables."""
    slices, stop, notices = assets.partitions.in_run(context), CancelToken(), Notices()
    batch, landed, charged = assets.batch, dict[Slice, Landed](), dict[str, int]()

    async def work(session: Session) -> None:
        await wait_until_idle(
            session,
            ImageWork(batch),
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
            mynth.in_session(work, stop=stop, notices=notices, watch=run_watch(context))
        finally:
            for slice_, one in landed.items():
                _observe_tasks(context, assets, one)
                for table in ("images", "failures"):
                    tables[assets.key(table)][slice_] = one.metadata(assets, table)
    yield from record_all(context, assets.partitions, tables, checks=judge())


def _judged(
    assets: BatchAssets, landed: Mapping[Slice, Landed], charged: Mapping[str, int]
) -> list[dg.AssetCheckResult]:
    """Return the results of the checks of a collection."""
    images, failures, limits = assets.key("images"), assets.key("failures"), assets.checks
    summaries = [one.summary for one in landed.values()]
    results = [
        checks.accounted_for(images, {slice_: one.audit for slice_, one in landed.items()}),
        checks.failures_few(failures, summaries, limits),
        checks.nothing_open(failures, summaries),
    ]
    if limits.budget_usd_per_window is not None:
        results.append(checks.within_budget(images, charged, limits))
    if assets.batch.request.rating is not None:
        forbidden, share_warn = limits.forbidden_levels, limits.unrated_share_warn
        results.append(content_rated(images, summaries, forbidden, share_warn))
    return results


def keep_image_files(
    context: dg.AssetExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> Iterator[Result]:
    """Download what is missing of the files of the run's partitions."""
    slices, stop = assets.partitions.in_run(context), CancelToken()
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
        mynth.in_session(work, stop=stop, watch=run_watch(context))
    yield from record_all(context, assets.partitions, tables, checks=judge())


def ask_about_images(
    context: dg.AssetExecutionContext,
    mynth: MynthResource,
    assets: BatchAssets,
    follow_up: FollowUp,
) -> Iterator[Result]:
    """Ask what was not asked yet about the images of the run's partitions; wait, and write."""
    slices, stop, notices = assets.partitions.in_run(context), CancelToken(), Notices()
    of_run, progress = options_of_run(context), RunProgress()
    progress.on_quote = lambda plan, quote: notices.put(
        lambda: context.log.info(
            f"{plan.n_to_send} images to ask about, {format_usd(quote.total_units)}"
        )
    )
    of_images, table = FollowUpWork(assets.batch, follow_up), follow_up.table
    landed: dict[Slice, Metadata] = {}

    async def work(session: Session) -> None:
        store = TableStore(session.settings.root, assets.batch.name)
        summaries = follow_up_images(
            session,
            of_images,
            slices,
            submitter=context.run.run_id,
            stop=stop,
            progress=progress,
            options=await of_run.of(session, of_images.ledger_name),
        )
        async for summary in summaries:
            landed[summary.slice] = {
                **metadata.follow_up_metadata(summary),
                DATA_DIGEST: await asyncio.to_thread(store.data_digest, table, summary.slice),
            }

    tables = {assets.key(table): landed}
    counts, then = SubmitCounts(), of_run.how_to_go_on
    with recording_part_way(context, assets, tables, slices, counts=counts, then=then):
        mynth.in_session(work, stop=stop, notices=notices, watch=run_watch(context))
        if progress.report is not None:
            progress.report.require_all_sent(_left(slices, landed))
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
    """The body of `prepare`, `submit`, `collect`, `download`, or of a follow-up."""
    follow_up = assets.follow_up(phase)
    if follow_up is not None:
        yield from ask_about_images(context, mynth, assets, follow_up)
    else:
        yield from _BODIES[phase](context, mynth, assets)


async def _is_sent(session: Session, batch: Batch, slice_: Slice, report: SubmitReport) -> bool:
    """Whether nothing is left to send in a partition."""
    if report.stopped is None:
        return True
    return (await build_plan(session, ImageWork(batch), [slice_])).n_to_send == 0


def _sent_digest(store: TableStore, slice_: Slice) -> str:
    """Identify what was sent. What became of it since is no change that results depend on."""
    digest = hashlib.sha256()
    for rows in store.iter_batches(TASKS, slice_, columns=["intent_id", "attempt"]):
        digest.update(repr(rows.to_pydict()).encode())
    return digest.hexdigest()


def _left(slices: Sequence[Slice], done: Mapping[Slice, object]) -> str:
    n_left = len(slices) - len(done)
    return f"{n_left} of {len(slices)} partitions have rows left to send."


def _observe_tasks(context: dg.AssetExecutionContext, assets: BatchAssets, landed: Landed) -> None:
    """Log the state of `tasks` after the collection; their own run reported what was sent."""
    observation = dg.AssetObservation(
        assets.key("tasks"),
        partition=assets.partitions.key_of(landed.summary.slice),
        metadata=metadata.tasks_metadata(landed.summary),
    )
    context.log_event(observation)


def _observe(context: dg.AssetExecutionContext, assets: BatchAssets, waiting: Progress) -> None:
    """Log the progress of the waiting, as numbers that plot."""
    progress = {
        "mynth/pending": waiting.n_pending,
        "mynth/finished_this_round": waiting.n_finished,
        "mynth/stalled": waiting.n_stalled,
    }
    if waiting.n_finished or waiting.n_pending:
        context.log_event(dg.AssetObservation(assets.key("tasks"), metadata=progress))
