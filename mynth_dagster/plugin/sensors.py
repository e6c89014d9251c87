"""
The completion sensor: notices that partitions are idle and requests their collection.

It makes free reads only, never a POST: past its deadline Dagster drops a tick while the code
runs on and overlaps the next. All its memory is in the ledger, so a lost tick loses nothing.
For rows that were not sent for a passing reason it requests a run that sends them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.auto_resubmit import Reason, RequestedRun, Unsent, choose_due
from mynth_dagster.engine.reconcile import PartitionStatus, partition_status
from mynth_dagster.engine.session import EngineSettings, Session
from mynth_dagster.engine.stop import stops_of
from mynth_dagster.engine.webhook_health import webhook_health
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.errors import MynthError
from mynth_dagster.limits import AUTO_RESUBMITS_WITHIN_S, SENSOR_BUDGET_S, SENSOR_READ_TIMEOUT_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.failing import tick_in_words
from mynth_dagster.plugin.jobs import job_name
from mynth_dagster.plugin.resource import MynthResource

# Which partitions Dagster's runs work on, and which runs the sensor requested before.


AUTO_RESUBMIT_TAG = "mynth/auto_resubmit"
"""The tag with the reason, on a run that the sensor requested to send rows again."""

_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class ActiveRuns:
    """The runs that have not ended; `working` has the slices of all runs of the batch."""

    run_ids: frozenset[str]
    collecting: frozenset[Slice]
    working: frozenset[Slice]


def active_runs(instance: dg.DagsterInstance, assets: BatchAssets) -> ActiveRuns:
    """Return the runs that have not ended."""
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=_ACTIVE))
    collect, jobs = job_name(assets.batch.name, "collect"), set(assets.job_names.values())
    every, written = {assets.key(name) for name in assets.names}, _written(assets)
    collecting, working = set[Slice](), set[Slice]()
    for run in runs:
        checked = {check.asset_key for check in run.asset_check_selection or ()}
        selected = checked | (run.asset_selection or set())
        if run.job_name in jobs or every & selected:
            slices = assets.partitions.of_run(run, instance)
            working.update(slices)
            if run.job_name == collect or written & selected:
                collecting.update(slices)
    ids = frozenset(run.run_id for run in runs)
    return ActiveRuns(ids, frozenset(collecting), frozenset(working))


def previous_resubmits(instance: dg.DagsterInstance, assets: BatchAssets) -> Iterator[RequestedRun]:
    """Yield the runs that were requested lately to send rows again, by partition."""
    since = datetime.now(timezone.utc) - timedelta(seconds=AUTO_RESUBMITS_WITHIN_S)
    job = job_name(assets.batch.name, "submit")
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, created_after=since)):
        run = record.dagster_run
        if AUTO_RESUBMIT_TAG in run.tags:
            at_us = round(record.create_timestamp.timestamp() * US_PER_S)
            for slice_ in assets.partitions.of_run(run, instance):
                yield RequestedRun(slice_, at_us, run.is_success)


def _written(assets: BatchAssets) -> set[dg.AssetKey]:
    return {assets.key(table) for table in ("images", "failures", FILES)}


COLLECT_TAG = "mynth/collect"
"""The tag with partitions and version, without the attempt, on a run that the sensor requested."""
AUTO_RESUBMIT_OF_TAG = "mynth/auto_resubmit_of"
"""The same tag on a run that sends rows again."""

ATTEMPTS_MAX = 5


@dataclass(frozen=True)
class Tick:
    """
    The findings of a tick: the partitions, those to send again, and those to be reported.

    Of `unreported` partitions the tables are written and not reported to Dagster.
    """

    watched: Sequence[PartitionStatus]
    unsent: Sequence[Unsent]
    is_complete: bool
    silence: str | None
    unreported: Collection[Slice] = ()
    stops: Sequence[str] = ()


def build_sensor(assets: BatchAssets, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """Build the sensor `<batch>_completion`, running by default."""
    names = {job_name(assets.batch.name, doing) for doing in ("submit", "collect")}
    resource_key = assets.execution.resource_key

    @dg.sensor(
        name=f"{assets.batch.name}_completion",
        jobs=[job for job in jobs if job.name in names],
        minimum_interval_seconds=assets.batch.delivery.sensor_interval_s,
        required_resource_keys={resource_key},
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Polls Mynth for finished tasks and collects partitions that are idle. "
        "Starts a run that sends rows again where a rate limit or an outage has passed.",
        owners=list(assets.execution.owners) or None,
    )
    def completion(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return evaluate(context, getattr(context.resources, resource_key), assets)

    return completion


def evaluate(
    context: dg.SensorEvaluationContext, mynth: MynthResource, assets: BatchAssets
) -> dg.SensorResult:
    """Evaluate one tick."""
    asked = (
        list(previous_resubmits(context.instance, assets))
        if assets.batch.spending.auto_resubmit
        else []
    )

    async def work(session: Session) -> Tick:
        watched, is_complete = await partition_status(
            session, assets.batch, budget_s=SENSOR_BUDGET_S
        )
        rows = [
            Unsent(p.slice, p.version, p.auto_resubmit)
            for p in watched
            if p.auto_resubmit is not None
        ]
        unsent = (
            await choose_due(session, assets.batch, rows, asked)
            if assets.batch.spending.auto_resubmit
            else []
        )
        silence = (await webhook_health(session, ImageWork(assets.batch))).problem
        for run_id, status in _over(context.instance, watched).items():
            message = f"in Dagster it is {status}"
            await session.ledger.stops.fence(run_id, message, session.clock.instant())
        reported, unreported = _split_reported(context.instance, assets, watched)
        if reported:
            await session.ledger.mark_reported(assets.batch.ledger_name, reported)
        stops = await asyncio.to_thread(stops_of, session.ledger, assets.batch.ledger_name)
        return Tick(watched, unsent, is_complete, silence, unreported, stops)

    try:
        tick = mynth.in_session(work, settings=_in_a_hurry(mynth.engine_settings()))
    except MynthError as error:
        return dg.SensorResult(skip_reason=tick_in_words(error))
    active = active_runs(context.instance, assets)
    known, unknown = _split_known(context, assets, tick.watched)
    requests = _all_requests(context.instance, assets, known, tick, active)
    summary = _in_words(known, unknown, is_complete=tick.is_complete)
    if tick.silence:
        context.log.warning(tick.silence)
        summary = f"{summary}; {tick.silence}"
    for stopped in tick.stops:
        context.log.warning(f"stopped: {stopped}")
        summary = f"{summary}; stopped: {stopped}"
    return dg.SensorResult(
        run_requests=requests or None,
        skip_reason=None if requests else summary,
        asset_events=_progress(assets, known),
    )


def _over(instance: dg.DagsterInstance, watched: Sequence[PartitionStatus]) -> Mapping[str, str]:
    """
    Return the runs that count as sending in the ledger and have ended, with their status.

    A process of theirs may be left behind, on any machine. A run that this Dagster instance does
    not know may be another instance's.
    """
    runs = _runs(instance, {p.submitter for p in watched if p.submitter is not None})
    return {run_id: run.status.value for run_id, run in runs.items() if run.is_finished}


def _runs(instance: dg.DagsterInstance, run_ids: Collection[str]) -> Mapping[str, dg.DagsterRun]:
    """Return the runs among these that this Dagster instance knows."""
    if not run_ids:
        return {}
    found = instance.get_runs(filters=dg.RunsFilter(run_ids=sorted(run_ids)))
    return {run.run_id: run for run in found}


def _in_a_hurry(settings: EngineSettings) -> EngineSettings:
    """Shorten time-outs and retries: a late tick is dropped, and the next one tries again."""
    client = replace(settings.client, read_timeout_s=SENSOR_READ_TIMEOUT_S, read_attempts=1)
    return replace(settings, client=client)


def _all_requests(
    instance: dg.DagsterInstance,
    assets: BatchAssets,
    known: Sequence[PartitionStatus],
    tick: Tick,
    active: ActiveRuns,
) -> list[dg.RunRequest]:
    """Return requests of runs that send again, and of runs that collect idle partitions."""
    keys = {partition.slice for partition in known} - active.working
    to_send = [one for one in tick.unsent if one.slice in keys]
    sent = {one.slice for one in to_send}
    free = [p for p in known if p.slice not in sent and p.slice not in active.collecting]
    ready = [p for p in free if _is_ready(p, active) or p.slice in tick.unreported]
    return [
        *_requests_to_send(instance, assets, to_send),
        *_requests_to_collect(instance, assets, {p.slice: p.version for p in ready}),
    ]


def _is_ready(partition: PartitionStatus, active: ActiveRuns) -> bool:
    is_being_sent = partition.submitter in active.run_ids
    return partition.is_idle and partition.is_behind and not is_being_sent


def _split_reported(
    instance: dg.DagsterInstance, assets: BatchAssets, watched: Sequence[PartitionStatus]
) -> tuple[list[tuple[Slice, str]], set[Slice]]:
    """
    Split partitions by whether their tables were reported to Dagster, with the run that wrote them.

    A run that was killed between its tables and their event leaves an asset that seems never to
    have been materialized: it is collected once more, which writes the same tables.
    """
    runs = _runs(instance, {p.collector for p in watched if p.collector is not None})
    reported, unreported = list[tuple[Slice, str]](), set[Slice]()
    for partition in watched:
        run = runs.get(partition.collector or "")
        if run is None or not run.is_finished:
            continue
        if run.is_success or _has_event(instance, assets, partition.slice, run.run_id):
            reported.append((partition.slice, run.run_id))
        else:
            unreported.add(partition.slice)
    return reported, unreported


def _has_event(
    instance: dg.DagsterInstance, assets: BatchAssets, slice_: Slice, run_id: str
) -> bool:
    key = assets.partitions.key_of(slice_)
    wanted = dg.AssetRecordsFilter(
        asset_key=assets.key("images"), asset_partitions=None if key is None else [key]
    )
    records = instance.fetch_materializations(wanted, limit=1).records
    return bool(records) and records[0].run_id == run_id


@dataclass(frozen=True)
class _Block:
    """Neighbours for which one run is requested; `wanted` is their range and versions."""

    slices: Sequence[Slice]
    wanted: str
    attempt: int

    def request(
        self, assets: BatchAssets, doing: str, tags: Mapping[str, str], **fields: Any
    ) -> dg.RunRequest:
        """Make a request of a job of the batch: a range, or a plain key for a single partition."""
        fields |= {"run_key": f"{self.wanted}#{self.attempt}"}
        if len(self.slices) > 1:
            tags = {**tags, **assets.partitions.range_tags(self.slices)}
        else:
            fields |= {"partition_key": assets.partitions.key_of(self.slices[0])}
        return dg.RunRequest(job_name=job_name(assets.batch.name, doing), tags=tags, **fields)


def _blocks(
    instance: dg.DagsterInstance,
    assets: BatchAssets,
    versions: Mapping[Slice, int],
    *,
    tag: str,
    prefix: str = "",
) -> Iterator[_Block]:
    """Yield a block for each range of neighbours, with how often it was requested unchanged."""
    for block in assets.partitions.blocks(versions):
        seen = hashlib.sha256(repr([versions[slice_] for slice_ in block]).encode()).hexdigest()
        wanted = f"{prefix}{block[0].key}…{block[-1].key}@{seen[:16]}"
        n_before = instance.get_runs_count(dg.RunsFilter(tags={tag: wanted}))
        yield _Block(block, wanted, 1 + n_before)


def _requests_to_collect(
    instance: dg.DagsterInstance, assets: BatchAssets, versions: Mapping[Slice, int]
) -> Iterator[dg.RunRequest]:
    for block in _blocks(instance, assets, versions, tag=COLLECT_TAG):
        if block.attempt <= ATTEMPTS_MAX:
            yield block.request(assets, "collect", {COLLECT_TAG: block.wanted})


def _requests_to_send(
    instance: dg.DagsterInstance, assets: BatchAssets, unsent: Sequence[Unsent]
) -> Iterator[dg.RunRequest]:
    """Yield requests of `tasks` alone, since only people and schedules send changed prompts."""
    for reason in Reason:
        versions = {one.slice: one.version for one in unsent if one.reason is reason}
        tables = ("prompts", "tasks") if reason is Reason.UNPREPARED else ("tasks",)
        selection = [assets.key(table) for table in tables]
        prefix = f"auto_resubmit {reason.value} "
        for block in _blocks(instance, assets, versions, tag=AUTO_RESUBMIT_OF_TAG, prefix=prefix):
            tags = {AUTO_RESUBMIT_TAG: reason.value, AUTO_RESUBMIT_OF_TAG: block.wanted}
            yield block.request(assets, "submit", tags, asset_selection=selection)


def _split_known(
    context: dg.SensorEvaluationContext,
    assets: BatchAssets,
    watched: Sequence[PartitionStatus],
) -> tuple[list[PartitionStatus], list[PartitionStatus]]:
    """Split off keys that the definition no longer has: requesting one would fail the tick."""
    definition = assets.partitions.definition
    if definition is None:
        return list(watched), []
    known_keys = set(definition.get_partition_keys(dynamic_partitions_store=context.instance))
    known = [p for p in watched if p.slice.key in known_keys]
    return known, [p for p in watched if p.slice.key not in known_keys]


def _progress(assets: BatchAssets, watched: Sequence[PartitionStatus]) -> list[dg.AssetObservation]:
    """Return numbers that plot; the same if delivered twice."""
    return [
        dg.AssetObservation(
            assets.key("tasks"),
            partition=assets.partitions.key_of(partition.slice),
            metadata={
                "mynth/pending": partition.n_pending,
                "mynth/finished": partition.n_finished,
                "mynth/stalled": partition.n_stalled,
            },
        )
        for partition in watched
        if partition.n_pending or partition.n_finished
    ]


def _in_words(
    known: Sequence[PartitionStatus], unknown: Sequence[PartitionStatus], *, is_complete: bool
) -> str:
    pending = sum(partition.n_pending for partition in known)
    n_open = sum(partition.is_open for partition in known)
    parts = [f"{pending} tasks pending in {n_open} open partitions"]
    n_unsent = sum(partition.auto_resubmit is not None for partition in known)
    if n_unsent:
        parts.append(f"{n_unsent} partitions have rows that were not sent")
    if unknown:
        keys = ", ".join(partition.slice.key for partition in unknown[:5])
        parts.append(f"{len(unknown)} partitions are not in the definition any more: {keys}")
    if not is_complete:
        parts.append("the tick's time was too short for all; the next one goes on")
    return "; ".join(parts)
