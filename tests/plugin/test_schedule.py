"""The nightly schedule."""

from __future__ import annotations

from datetime import datetime, timezone

import dagster as dg
import pytest

from mynth_dagster import Execution, MynthResource, build_image_batch
from tests.batches import grouped

PER_PARTITION = Execution(backfill_policy=dg.BackfillPolicy.multi_run())
NIGHT = datetime(2026, 11, 22, 1, 30, tzinfo=timezone.utc)


def _requests(**settings):
    batch = build_image_batch(
        "shots",
        prompts="p.parquet",
        partitions_def=dg.DailyPartitionsDefinition("2026-11-18"),
        schedule="30 1 * * *",
        **grouped(settings),
    )
    resource = MynthResource(api_key="mak_x", root="data")
    defs = dg.Definitions.merge(batch, dg.Definitions(resources={"mynth": resource}))
    (schedule,) = defs.schedules
    context = dg.build_schedule_context(
        scheduled_execution_time=NIGHT, repository_def=defs.get_repository_def()
    )
    return schedule, schedule.evaluate_tick(context).run_requests


def test_one_run_covers_the_last_closed_day():
    """At night one request asks for yesterday's whole fan-out by range tags."""
    _, (request,) = _requests(fan_out=3)

    assert request.tags["dagster/asset_partition_range_start"] == "2026-11-21|000"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-11-21|002"
    assert request.tags["mynth/partitions"] == "2026-11-21, 3 partitions"


def test_fleet_gets_one_run_per_partition():
    """With a backfill policy of one partition a run every shard is a request of its own."""
    _, requests = _requests(fan_out=3, execution=PER_PARTITION)

    keys = [request.partition_key for request in requests]
    assert keys == ["2026-11-21|000", "2026-11-21|001", "2026-11-21|002"]


@pytest.mark.parametrize(("wait", "job"), [("sensor", "shots_submit"), ("run", "shots_all")])
def test_way_of_waiting_chooses_the_job(wait, job):
    """A sensor collects later, so the night only submits; else the night does all."""
    schedule, _ = _requests(wait=wait)

    assert schedule.job_name == job
