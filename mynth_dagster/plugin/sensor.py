"""
The completion sensor: notices that partitions are settled and asks for their collection.

It makes free reads only, never a POST: past its deadline Dagster drops a tick while the code
runs on and overlaps the next. All its memory is in the ledger, so a lost tick loses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from mynth_dagster.engine.announced import hearing_of
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.watch import WatchedPartition, watch
from mynth_dagster.errors import MynthError
from mynth_dagster.limits import SENSOR_BUDGET_S
from mynth_dagster.models.partition import Slice
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.jobs import job_name
from mynth_dagster.plugin.partitions import RANGE_END_TAG, RANGE_START_TAG
from mynth_dagster.plugin.resource import MynthResource

COLLECT_TAG = "mynth/collect"
"""On a run that the sensor asked for: partitions and version, without the attempt."""

ATTEMPTS_MAX = 5
_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class ActiveRuns:
    """What runs that are not over are busy with."""

    run_ids: frozenset[str]
    collecting: frozenset[Slice]


def build_sensor(assets: BatchAssets, resource_key: str, *, interval_s: int) -> dg.SensorDefinition:
    """The sensor `<batch>_completion`, running by default."""
    name = job_name(assets.batch.name, "collect")

    @dg.sensor(
        name=f"{assets.batch.name}_completion",
        job_name=name,
        minimum_interval_seconds=interval_s,
        required_resource_keys={resource_key},
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Polls Mynth for finished tasks and collects partitions that are settled.",
    )
    def completion(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return evaluate(context, getattr(context.resources, resource_key), assets)

    return completion


def evaluate(
    context: dg.SensorEvaluationContext, mynth: MynthResource, assets: BatchAssets
) -> dg.SensorResult:
    """One tick."""

    async def work(session: Session) -> tuple[list[WatchedPartition], bool, str | None]:
        watched, is_complete = await watch(session, assets.batch, budget_s=SENSOR_BUDGET_S)
        return watched, is_complete, (await hearing_of(session, assets.batch)).in_words()

    try:
        watched, is_complete, silence = mynth.run(work)
    except MynthError as error:
        return dg.SensorResult(skip_reason=f"{error} Nothing is lost; the next tick tries again.")
    active = _active_runs(context.instance, assets)
    known, unknown = _split_known(context, assets, watched)
    ready = [p for p in known if _is_ready(p, active)]
    requests = list(_requests(context.instance, assets, ready))
    summary = _in_words(known, unknown, is_complete=is_complete)
    if silence:
        context.log.warning(silence)
        summary = f"{summary}; {silence}"
    return dg.SensorResult(
        run_requests=requests or None,
        skip_reason=None if requests else summary,
        asset_events=_progress(assets, known),
    )


def _is_ready(partition: WatchedPartition, active: ActiveRuns) -> bool:
    is_being_sent = partition.submitter in active.run_ids
    is_being_collected = partition.slice in active.collecting
    return (
        partition.is_settled
        and partition.is_behind
        and not is_being_sent
        and not is_being_collected
    )


def _requests(
    instance: dg.DagsterInstance, assets: BatchAssets, ready: Sequence[WatchedPartition]
) -> Iterator[dg.RunRequest]:
    """A range per block of neighbours, with versions and attempt in the key."""
    versions = {partition.slice: partition.version for partition in ready}
    for block in assets.partitions.blocks(versions):
        seen = hashlib.sha256(repr([versions[slice_] for slice_ in block]).encode()).hexdigest()
        wanted = f"{block[0].key}…{block[-1].key}@{seen[:16]}"
        attempt = 1 + instance.get_runs_count(dg.RunsFilter(tags={COLLECT_TAG: wanted}))
        if attempt > ATTEMPTS_MAX:
            continue
        yield _request(assets, block, wanted, attempt)


def _request(
    assets: BatchAssets, block: Sequence[Slice], wanted: str, attempt: int
) -> dg.RunRequest:
    key, tags = f"{wanted}#{attempt}", {COLLECT_TAG: wanted}
    if len(block) > 1:
        return dg.RunRequest(run_key=key, tags={**tags, **assets.partitions.range_tags(block)})
    return dg.RunRequest(run_key=key, tags=tags, partition_key=assets.partitions.key_of(block[0]))


def _active_runs(instance: dg.DagsterInstance, assets: BatchAssets) -> ActiveRuns:
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=_ACTIVE))
    collect = job_name(assets.batch.name, "collect")
    written = {assets.key("images"), assets.key(FILES)}
    collecting = [
        run for run in runs if run.job_name == collect or written & set(run.asset_selection or ())
    ]
    slices = [slice_ for run in collecting for slice_ in _slices_of(instance, assets, run)]
    return ActiveRuns(frozenset(run.run_id for run in runs), frozenset(slices))


def _slices_of(
    instance: dg.DagsterInstance, assets: BatchAssets, run: dg.DagsterRun
) -> list[Slice]:
    partitions = assets.partitions
    start, end = run.tags.get(RANGE_START_TAG), run.tags.get(RANGE_END_TAG)
    if start and end:
        return _between(instance, assets, partitions.slice_of(start), partitions.slice_of(end))
    key = run.tags.get("dagster/partition")
    if key:
        return [partitions.slice_of(key)]
    return [assets.batch.slice()]


def _between(
    instance: dg.DagsterInstance, assets: BatchAssets, first: Slice, last: Slice
) -> list[Slice]:
    """The rectangle of a range, in the order of the windows' definition."""
    keys = assets.batch.fan_out_keys or [""]
    if first.fan_out not in keys or last.fan_out not in keys:
        return [first, last]  # of an earlier definition: nothing that could be asked for now
    inside = keys[keys.index(first.fan_out) : keys.index(last.fan_out) + 1]
    windows = [first.window]
    definition = assets.partitions.windows
    if definition is not None and first.window != last.window:
        known = list(definition.get_partition_keys(dynamic_partitions_store=instance))
        if first.window not in known or last.window not in known:
            return [first, last]
        windows = known[known.index(first.window) : known.index(last.window) + 1]
    return [assets.batch.slice(window, key) for window in windows for key in inside]


def _split_known(
    context: dg.SensorEvaluationContext,
    assets: BatchAssets,
    watched: Sequence[WatchedPartition],
) -> tuple[list[WatchedPartition], list[WatchedPartition]]:
    """A key that the definition no longer has would fail the whole tick if requested."""
    definition = assets.partitions.definition
    if definition is None:
        return list(watched), []
    known_keys = set(definition.get_partition_keys(dynamic_partitions_store=context.instance))
    known = [p for p in watched if p.slice.key in known_keys]
    return known, [p for p in watched if p.slice.key not in known_keys]


def _progress(
    assets: BatchAssets, watched: Sequence[WatchedPartition]
) -> list[dg.AssetObservation]:
    """Numbers that plot; the same when delivered twice."""
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
    known: Sequence[WatchedPartition], unknown: Sequence[WatchedPartition], *, is_complete: bool
) -> str:
    pending = sum(partition.n_pending for partition in known)
    parts = [f"{pending} tasks pending in {len(known)} open partitions"]
    if unknown:
        keys = ", ".join(partition.slice.key for partition in unknown[:5])
        parts.append(f"{len(unknown)} partitions are not in the definition any more: {keys}")
    if not is_complete:
        parts.append("the tick's time was too short for all; the next one goes on")
    return "; ".join(parts)
