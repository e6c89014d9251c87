"""What is selected of a batch: tables that are written together are never told of apart."""

from __future__ import annotations

import dagster as dg
import pyarrow.dataset as pads
import pytest

from mynth_dagster.models.batch_settings import Files
from tests.plugin.conftest import range_tags

FIRST, LAST = "2026-11-19|000", "2026-11-19|001"
ONE = {"partitions_def": None, "fan_out": 1}
CHECKS = {
    "every_prompt_accounted_for": "images",
    "failure_rate": "failures",
    "nothing_unresolved": "failures",
}


def _key(table):
    return dg.AssetKey(["shots", table])


def _check(name):
    return dg.AssetCheckKey(_key(CHECKS[name]), name)


def _select(project, selection, *, settings=ONE, **tags):
    """Run a job of the user's own, over what they selected."""
    job = dg.define_asset_job("chosen", selection=selection)
    defs = dg.Definitions.merge(project.definitions(**settings), dg.Definitions(jobs=[job]))
    return defs.resolve_job_def("chosen").execute_in_process(
        instance=project.instance, tags=tags, raise_on_error=False
    )


def _judged(result):
    evaluations = [
        event.event_specific_data
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    return sorted(evaluation.check_name for evaluation in evaluations if evaluation.passed)


def _told(result):
    made = [event for event in result.all_events if event.is_step_materialization]
    return sorted((str(event.asset_key.path[-1]), event.partition) for event in made)


def _images(project):
    return pads.dataset(project.folder / "data" / "shots" / "images").count_rows()


@pytest.mark.parametrize("table", ["images", "failures"])
def test_one_of_the_collected_tables_alone_is_written_with_the_other(instant, table):
    """Both are written, so both are recorded for each partition, and all checks, each once."""
    instant.execute("submit", FIRST, LAST)

    selection = dg.AssetSelection.assets(_key(table))
    result = _select(instant, selection, settings={}, **range_tags(FIRST, LAST))

    assert result.success
    both = [(name, shard) for name in ("failures", "images") for shard in (FIRST, LAST)]
    assert _told(result) == both
    assert _judged(result) == sorted(CHECKS)
    (record, *_) = instant.instance.fetch_materializations(_key("failures"), limit=1).records
    assert record.asset_materialization.metadata["mynth/failure_rate"].value == 0.0
    assert instant.n_accepted == _images(instant) == 12


@pytest.mark.parametrize(
    "selection",
    [
        dg.AssetSelection.assets(_key("images"), _key("failures")).without_checks(),
        dg.AssetSelection.assets(_key("images")).without_checks()
        | dg.AssetSelection.checks(_check("failure_rate")),
        dg.AssetSelection.checks(_check("every_prompt_accounted_for")),
        dg.AssetSelection.checks(*map(_check, CHECKS)),
    ],
    ids=["no checks", "a table and the other one's check", "a check", "all checks"],
)
def test_checks_are_judged_whatever_is_selected(instant, selection):
    """With or without the tables that they judge, which are collected anew, free of charge."""
    instant.execute("submit", defs=instant.definitions(**ONE))

    result = _select(instant, selection)

    assert result.success
    assert _told(result) == [("failures", None), ("images", None)]
    assert _judged(result) == sorted(CHECKS)
    assert instant.n_accepted == _images(instant) == 12


def test_assets_downstream_of_one_table_follow_it(instant):
    """`images` and `files` without `failures` are one run."""
    settings = {**ONE, "files": Files()}
    instant.execute("submit", defs=instant.definitions(**settings))

    selection = dg.AssetSelection.assets(_key("images"), _key("files"))
    result = _select(instant, selection, settings=settings)

    assert result.success
    assert [table for table, _ in _told(result)] == ["failures", "files", "images"]


def test_one_table_of_a_run_that_fails_part_way(instant):
    """What landed is recorded, of both; the blocking check fails although nobody selected it."""
    instant.execute("submit", FIRST, LAST)
    obstacle = instant.folder / "data" / "shots" / "images" / "date=2026-11-19" / "fan_out=001"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("in the way")

    selection = dg.AssetSelection.assets(_key("failures"))
    result = _select(instant, selection, settings={}, **range_tags(FIRST, LAST))

    assert not result.success
    assert instant.recorded("images") == instant.recorded("failures") == [FIRST]
    key = _check("every_prompt_accounted_for")
    shown = instant.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    evaluation = shown[key].event.dagster_event.event_specific_data
    assert evaluation.metadata["mynth/not_landed"].value == LAST
    assert not evaluation.passed


@pytest.mark.parametrize("selected", ["images", "failures", "check"])
def test_the_sensor_waits_for_a_run_of_one_table(instant, selected):
    """Partitions that somebody collects by hand, whatever they selected, are not collected too."""
    instant.execute("submit", FIRST)
    assert len(instant.tick().run_requests) == 1
    is_check = selected == "check"
    run = dg.DagsterRun(
        "__ASSET_JOB",
        tags={"dagster/partition": FIRST},
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset() if is_check else frozenset({_key(selected)}),
        asset_check_selection=frozenset({_check("failure_rate")}) if is_check else None,
    )
    instant.instance.add_run(run)

    assert instant.tick().run_requests == []


def test_checks_alone_need_partitions_where_the_batch_has_them(instant):
    """One sentence says so, and nothing is done."""
    instant.execute("submit", FIRST, LAST)

    result = _select(instant, dg.AssetSelection.checks(_check("failure_rate")), settings={})

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    message = str(failure.step_failure_data.error.message)
    assert "names none, and the batch has partitions. Money: nothing was sent" in message
    assert _told(result) == []
