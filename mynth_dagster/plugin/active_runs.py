"""Which partitions Dagster's runs are busy with, and which runs the sensor asked for before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import dagster as dg

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.auto_resubmit import Asked
from mynth_dagster.limits import RESENDS_WITHIN_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.jobs import job_name

RESEND_TAG = "mynth/resend"
"""On a run that the sensor asked for to send rows again: why."""

_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class ActiveRuns:
    """What runs that are not over are busy with; `working` has the slices of all of the batch's."""

    run_ids: frozenset[str]
    collecting: frozenset[Slice]
    working: frozenset[Slice]


def active_runs(instance: dg.DagsterInstance, assets: BatchAssets) -> ActiveRuns:
    """The runs that are not over."""
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


def asked_before(instance: dg.DagsterInstance, assets: BatchAssets) -> Iterator[Asked]:
    """Runs that were asked for lately to send rows again, by partition."""
    since = datetime.now(timezone.utc) - timedelta(seconds=RESENDS_WITHIN_S)
    job = job_name(assets.batch.name, "submit")
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, created_after=since)):
        run = record.dagster_run
        if RESEND_TAG in run.tags:
            at_us = round(record.create_timestamp.timestamp() * US_PER_S)
            for slice_ in assets.partitions.of_run(run, instance):
                yield Asked(slice_, at_us, run.is_success)


def _written(assets: BatchAssets) -> set[dg.AssetKey]:
    return {assets.key(table) for table in ("images", "failures", FILES)}
