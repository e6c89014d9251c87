"""The completion sensor: what it asks for, when, and what it leaves alone."""

from __future__ import annotations

import asyncio

import dagster as dg

from mynth_dagster import MynthResource
from mynth_dagster.models.batch import Slice
from tests.plugin.conftest import range_tags

FIRST, LAST = "2026-11-19|000", "2026-11-20|001"


def _collect(project, requests, **kwargs):
    job = project.definitions().resolve_job_def("shots_collect")
    return [
        job.execute_in_process(
            instance=project.instance,
            partition_key=request.partition_key,
            tags={k: v for k, v in request.tags.items() if not k.startswith("dagster/partition")},
            **kwargs,
        )
        for request in requests
    ]


def test_nothing_is_asked_for_while_tasks_are_pending(project):
    """With pending tasks the tick says how many, as a reason and as observations."""
    project.execute("submit", FIRST, LAST)

    tick = project.tick()

    assert tick.run_requests == []
    assert "24 tasks pending in 4 open partitions" in tick.skip_message
    assert sum(event.metadata["mynth/pending"].value for event in tick.asset_events) == 24


def test_idle_partitions_are_asked_for_in_ranges(project):
    """When all tasks are finished, each day is one request over its block of shards."""
    project.execute("submit", FIRST, LAST)
    project.simulator.complete()

    requests = project.tick().run_requests

    ranges = [
        (r.tags["dagster/asset_partition_range_start"], r.tags["dagster/asset_partition_range_end"])
        for r in requests
    ]
    assert ranges == [
        ("2026-11-19|000", "2026-11-19|001"),
        ("2026-11-20|000", "2026-11-20|001"),
    ]


def test_collected_partitions_are_not_asked_for_again(project):
    """After collection the sensor is quiet, and collecting cost no further POST."""
    project.execute("submit", FIRST, LAST)
    project.simulator.complete()

    results = _collect(project, project.tick().run_requests)

    assert all(result.success for result in results)
    assert sorted(set(project.recorded("images"))) == [
        "2026-11-19|000",
        "2026-11-19|001",
        "2026-11-20|000",
        "2026-11-20|001",
    ]
    assert project.tick().run_requests == []
    assert project.n_accepted == 24


def test_tick_makes_only_free_reads(project):
    """A tick never creates a task, whatever it finds."""
    project.execute("submit", FIRST)
    before = project.simulator.log()["requests"]

    project.tick()

    after = project.simulator.log()["requests"]
    new = {route for route, n in after.items() if n > before.get(route, 0)}
    assert new
    assert all(route.startswith("GET ") for route in new)


def test_single_partition_is_asked_for_by_its_key(project):
    """One settled shard is requested by its plain partition key."""
    project.execute("submit", FIRST)
    project.simulator.complete()

    (request,) = project.tick().run_requests

    assert request.partition_key == FIRST
    assert "dagster/asset_partition_range_start" not in request.tags


def test_failed_collection_is_asked_for_under_a_new_key(project):
    """A failed run has used its key up for ever, so the attempt is part of the key."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    (first,) = project.tick().run_requests
    project.instance.create_run_for_job(
        project.definitions().resolve_job_def("shots_collect"),
        tags=dict(first.tags),
        status=dg.DagsterRunStatus.FAILURE,
    )

    (second,) = project.tick().run_requests

    assert first.run_key != second.run_key
    assert second.run_key.endswith("#2")


def test_partition_that_a_run_collects_is_left_alone(project):
    """While a run collects a partition the sensor does not ask for it again."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    (request,) = project.tick().run_requests
    project.instance.create_run_for_job(
        project.definitions().resolve_job_def("shots_collect"),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.STARTED,
    )

    assert project.tick().run_requests == []


def test_late_change_is_asked_for_again(project):
    """An edited row sent after collection raises the version, and the sensor asks again."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    _collect(project, project.tick().run_requests)
    project.write_prompts([f"a blue kite, number {index}" for index in range(12)])
    project.execute("submit", FIRST)
    project.simulator.complete()

    (request,) = project.tick().run_requests

    assert request.partition_key == FIRST


def test_vanished_partition_is_reported_never_requested(project):
    """A partition that the definition no longer has is named in the reason."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    shrunk = project.definitions(
        partitions_def=dg.DailyPartitionsDefinition("2026-11-20", end_date="2026-11-24")
    )

    tick = project.tick(shrunk)

    assert tick.run_requests == []
    assert f"not in the definition any more: {FIRST}" in tick.skip_message


def test_outage_skips_the_tick_with_a_reason(project):
    """If Mynth refuses the key, the tick ends with a reason and asks for nothing."""
    project.execute("submit", FIRST)
    project.simulator.set_scenario(api_keys=[{"key": "mak_other"}])

    tick = project.tick()

    assert tick.run_requests == []
    assert (
        "nothing is lost. Next: mend what it names; the next tick tries again." in tick.skip_message
    )


def test_a_tick_without_the_key_skips_with_a_sentence(project, monkeypatch):
    """A colleague without the variable reads its name, not a traceback at every tick."""
    monkeypatch.delenv("MYNTH_API_KEY", raising=False)
    mynth = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), root=str(project.folder / "data"))
    sensor = project.definitions().resolve_sensor_def("shots_completion")

    with dg.build_sensor_context(instance=project.instance, resources={"mynth": mynth}) as context:
        tick = sensor.evaluate_tick(context)

    assert tick.skip_message.startswith("api_key: MYNTH_API_KEY is not set where Dagster runs;")
    assert not tick.run_requests


def test_a_tick_does_not_wait_for_a_server_that_asks_for_patience(project):
    """Dagster drops a tick after a minute: what cannot be read now is left to the next one."""
    project.execute("submit", FIRST)
    patience = {"kind": "rate_limited", "retry_after_s": 30, "route": "GET /tasks"}
    project.simulator.set_scenario(faults=[patience])
    n_before = project.simulator.log()["requests"]["GET /tasks"]

    tick = project.tick()

    assert "tasks pending" in tick.skip_message
    assert project.simulator.log()["requests"]["GET /tasks"] == n_before + 1


def test_removed_rows_are_news_too(project):
    """After rows left the prompt table, the results are asked for anew, and nothing is sent."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    _collect(project, project.tick().run_requests)
    sent = project.n_accepted
    project.write_prompts([f"a red kite, number {index}" for index in range(6)])

    project.execute("submit", FIRST)

    (request,) = project.tick().run_requests
    assert request.partition_key == FIRST
    assert project.n_accepted == sent


def test_same_prompts_are_no_news(project):
    """Preparing and submitting the same table again leaves the sensor quiet."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    _collect(project, project.tick().run_requests)

    project.execute("submit", FIRST)

    assert project.tick().run_requests == []


def test_active_run_over_vanished_shards_does_not_stop_the_tick(project):
    """A run that still collects shards of an earlier definition leaves the others alone."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    project.instance.create_run_for_job(
        project.definitions(fan_out=4).resolve_job_def("shots_collect"),
        tags=range_tags("2026-11-19|002", "2026-11-19|003"),
        status=dg.DagsterRunStatus.STARTED,
    )

    (request,) = project.tick().run_requests

    assert request.partition_key == FIRST


def test_ticks_that_overlap_ask_for_the_same_and_spend_nothing(project):
    """A tick that Dagster dropped runs on beside the next: equal keys, equal observations."""
    project.execute("submit", FIRST, LAST)
    project.simulator.complete()
    before = project.simulator.log()["totals"]["accepted"]

    late, next_one = project.tick(), project.tick()

    keys = [[request.run_key for request in tick.run_requests] for tick in (late, next_one)]
    assert keys[0] == keys[1] != []
    told = [[event.metadata for event in tick.asset_events] for tick in (late, next_one)]
    assert told[0] == told[1]
    assert project.simulator.log()["totals"]["accepted"] == before


def test_observations_delivered_twice_change_nothing(project):
    """Events arrive at least once: the second delivery asks for nothing more and shows the same."""
    project.execute("submit", FIRST, LAST)
    events = project.tick().asset_events
    for event in [*events, *events]:
        project.instance.report_runless_asset_event(event)

    again = project.tick()
    assert again.run_requests == []
    assert [event.metadata for event in again.asset_events] == [event.metadata for event in events]


def test_a_shard_of_which_all_failed_lands_too(project):
    """Else its day would never be whole for whoever stands downstream."""
    project.simulator.set_scenario(progress="immediate", failures=[{"kind": "task"}])

    result = project.execute("all", FIRST, LAST)

    assert result.success
    for table in ("images", "failures"):
        records = project.instance.fetch_materializations(
            dg.AssetKey(["shots", table]), limit=100
        ).records
        assert len({record.partition_key for record in records}) == 4


def test_tasks_tell_what_is_true_after_collection(project):
    """The newest observation of each partition of `tasks` has nothing pending, and the charge."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    _collect(project, project.tick().run_requests)

    key = dg.AssetKey(["shots", "tasks"])
    newest = project.instance.fetch_observations(key, limit=1).records[0].asset_observation
    assert newest.partition == FIRST
    assert newest.metadata["mynth/pending"].value == 0
    assert newest.metadata["mynth/charged_usd"].value > 0


def test_an_event_that_was_lost_is_noticed_and_made_up_for(project, monkeypatch):
    """Killed between its tables and their event: the asset is collected once more, free."""
    project.execute("submit", FIRST)
    project.simulator.complete()
    n_sent = project.n_accepted

    def die(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("mynth_dagster.plugin.execution.record_all", die)
        (lost,) = _collect(project, project.tick().run_requests, raise_on_error=False)
    assert not lost.success
    assert project.recorded("images") == []

    (again,) = _collect(project, project.tick().run_requests)

    assert again.success
    assert project.recorded("images") == [FIRST]
    assert project.tick().run_requests == []
    assert project.n_accepted == n_sent


def test_a_process_left_behind_by_a_run_that_is_over_is_shut_out(project):
    """On whatever machine it is: the ledger refuses what it claims from then on."""
    project.execute("submit", FIRST)
    (run,) = project.instance.get_runs()
    with project.ledger() as ledger:
        opening = ledger.open_partitions("shots", [Slice("2026-11-19", "000")], run.run_id)
        asyncio.run(opening)
        assert ledger.stops.fenced([run.run_id]) == {}

    project.tick()

    with project.ledger() as ledger:
        assert ledger.stops.fenced([run.run_id]) == {
            run.run_id: f"in Dagster it is {run.status.value}"
        }
