"""Runs over one partition, a range, and everything: what is sent, written and recorded."""

from __future__ import annotations

import dagster as dg
import pyarrow.dataset as ds
import pytest

FIRST, LAST = "2026-11-19|000", "2026-11-21|001"
SIX = ["2026-11-19|000", "2026-11-19|001", "2026-11-20|000", "2026-11-20|001"]
SIX += ["2026-11-21|000", "2026-11-21|001"]


def _failures(result):
    return [e for e in result.all_events if e.is_step_failure]


def test_range_is_recorded_once_per_partition(project):
    """Three days × two shards in one run are recorded once each, on every asset."""
    result = project.execute("submit", FIRST, LAST)

    assert result.success
    assert sorted(project.recorded("prompts")) == SIX
    assert sorted(project.recorded("tasks")) == SIX
    assert project.n_accepted == 3 * 12


def test_all_in_one_run_waits_and_collects(project):
    """With waiting in the run, one run goes from prompts to images."""
    project.simulator.set_scenario(progress="immediate")

    result = project.execute("all", FIRST, LAST)

    assert result.success
    assert sorted(project.recorded("images")) == SIX
    images = ds.dataset(project.folder / "data" / "shots" / "images", partitioning="hive")
    assert images.count_rows() == 36


def test_another_table_under_the_name_of_a_batch_is_refused_before_paying(instant):
    """As in a second code location that has the same root: it would replace the first's results."""
    one = {"partitions_def": None, "fan_out": 1}
    instant.execute("all", defs=instant.definitions(**one))
    other = instant.write_prompts(["a blue kite"], "other.parquet")

    second = instant.execute("all", defs=instant.definitions(**one, prompts=str(other)))

    (failure,) = [event for event in second.all_events if event.is_step_failure]
    message = failure.step_failure_data.error.message
    assert "prompts.parquet" in message
    assert "Money: nothing was sent and nothing was charged. Next: " in message
    assert instant.n_accepted == 12


def test_second_submission_sends_nothing(project):
    """Materializing tasks again sends no request and records the partition again."""
    project.execute("submit", FIRST)
    sent = project.n_accepted

    assert project.execute("submit", FIRST).success
    assert project.n_accepted == sent


def test_half_failed_range_records_exactly_the_finished(project):
    """If one day's prompts are missing, the other day is recorded and the run fails."""
    prompts = str(project.folder / "{window}.parquet")
    project.write_prompts(["a kite"] * 3, "2026-11-19.parquet")
    defs = project.definitions(prompts=prompts)

    result = project.execute("submit", "2026-11-19|000", "2026-11-20|001", defs=defs)

    assert not result.success
    assert sorted(project.recorded("prompts")) == ["2026-11-19|000", "2026-11-19|001"]
    assert project.recorded("tasks") == []
    assert project.n_accepted == 0


def test_stopped_submission_names_money_and_next_step(project):
    """An empty balance ends the run red, says what to do, and leaves it resumable."""
    project.simulator.set_scenario(balance_usd="0.05")

    result = project.execute("submit", "2026-11-19|000", "2026-11-19|001")

    (failure,) = _failures(result)
    told = failure.step_failure_data.error.cause.message + failure.step_failure_data.error.message
    assert "insufficient_balance" in told
    assert "top up the account" in told
    assert project.n_accepted == 5
    project.simulator.set_scenario(balance_usd="100")
    assert project.execute("submit", "2026-11-19|000", "2026-11-19|001").success
    assert project.n_accepted == 12
    assert project.simulator.log()["duplicate_intents"] == []


def test_reversed_range_fails_before_any_work(project):
    """A range that holds nothing names its tags and sends nothing."""
    result = project.execute("submit", LAST, FIRST)

    assert not result.success
    assert "dagster/asset_partition_range_start" in str(_failures(result)[0])
    assert project.n_accepted == 0


def test_bad_key_is_one_error(project):
    """A refused key fails the run once, before anything is sent."""
    project.simulator.set_scenario(api_keys=[{"key": "mak_other"}])

    result = project.execute("submit", FIRST)

    assert not result.success
    assert len(_failures(result)) == 1
    assert project.n_accepted == 0


def test_rejected_rows_reach_the_failure_table(project):
    """A blank prompt fails its row alone, is never sent, and is listed with its money."""
    project.write_prompts(["a kite", "   ", None])
    project.simulator.set_scenario(progress="immediate")
    defs = project.definitions(partitions_def=None, fan_out=1)

    assert project.execute("all", defs=defs).success

    failures = ds.dataset(project.folder / "data" / "shots" / "failures").to_table().to_pylist()
    assert [(f["prompt_id"], f["error_code"], f["money"]) for f in failures] == [
        ("p1", "empty_prompt", "not charged"),
        ("p2", "empty_prompt", "not charged"),
    ]
    assert project.n_accepted == 1


def test_metadata_has_numbers_that_plot(project):
    """Images, failure rate and money are recorded as plain numbers per partition."""
    project.simulator.set_scenario(progress="immediate")
    project.execute("all", FIRST)

    key = dg.AssetKey(["shots", "images"])
    (record,) = project.instance.fetch_materializations(key, limit=10).records
    metadata = record.asset_materialization.metadata
    n_images = metadata["mynth/images_asked"].value
    assert metadata["mynth/failure_rate"].value == pytest.approx(0.0)
    assert metadata["mynth/charged_usd"].value > 0
    assert metadata["dagster/partition_row_count"].value == n_images > 0
    assert metadata["mynth/rows"].value.endswith(f"{n_images} sent = {n_images} delivered")


def test_check_is_recorded_and_passes(project):
    """Each check is evaluated once per run, over all its partitions; one of them blocks."""
    project.simulator.set_scenario(progress="immediate")

    result = project.execute("all", FIRST, LAST)

    evaluations = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert set(evaluations) == {
        "prompts_valid",
        "every_prompt_accounted_for",
        "failure_rate",
        "nothing_unresolved",
    }
    assert all(evaluation.passed for evaluation in evaluations.values())
    evaluation = evaluations["every_prompt_accounted_for"]
    assert evaluation.blocking
    assert evaluation.metadata["mynth/rows"].value == 36


def test_retry_from_the_launchpad_pays_for_failed_rows_only(project):
    """The operation's configuration asks for failed rows again, as a new generation."""
    project.simulator.set_scenario(
        progress="immediate", failures=[{"prompt_contains": "number 3", "first": 1}]
    )
    project.execute("all", "2026-11-19|000", "2026-11-19|001")

    job = project.definitions().resolve_job_def("shots_all")
    result = job.execute_in_process(
        instance=project.instance,
        tags={
            "dagster/asset_partition_range_start": "2026-11-19|000",
            "dagster/asset_partition_range_end": "2026-11-19|001",
        },
        run_config={"ops": {"shots__submit": {"config": {"retry": "retryable"}}}},
    )

    assert result.success
    assert project.n_accepted == 13
    assert project.simulator.log()["duplicate_intents"] == []
