"""Operations from the UI: a quote, a retry, and settling what is in doubt."""

from __future__ import annotations

import dagster as dg
import pytest

from mynth_dagster.errors import ConfigError

FIRST, LAST = "2026-11-19|000", "2026-11-19|001"
ONE = {"partitions_def": None, "fan_out": 1}


def _run(project, job, config, defs=None, **kwargs):
    op = job.replace("shots_", "shots__").replace("retry", "submit")
    defs = defs or project.definitions(**ONE)
    return defs.resolve_job_def(job).execute_in_process(
        instance=project.instance,
        run_config={"ops": {op: {"config": config}}} if config is not None else None,
        raise_on_error=False,
        **kwargs,
    )


def _told(result, op, name):
    (event,) = [e for e in result.events_for_node(op) if e.is_successful_output]
    return event.step_output_data.metadata[name].value


def test_quote_is_a_dry_run(project):
    """It tells rows and price of each partition of a range, and sends nothing."""
    project.execute("submit", FIRST, LAST)
    sent = project.n_accepted
    project.write_prompts([f"a blue kite, number {n}" for n in range(12)])
    prompts = project.definitions().resolve_implicit_global_asset_job_def()
    tags = {
        "dagster/asset_partition_range_start": FIRST,
        "dagster/asset_partition_range_end": LAST,
    }
    prompts.execute_in_process(
        instance=project.instance,
        asset_selection=[dg.AssetKey(["shots", "prompts"])],
        tags=tags,
    )

    result = _run(project, "shots_quote", None, project.definitions(), tags=tags)

    assert result.success
    rows = _told(result, "shots__quote", "mynth/quote").splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    assert [cell[0] for cell in cells] == ["2026-11-19\\|000", "2026-11-19\\|001"]
    assert sum(int(cell[1]) for cell in cells) == 12
    assert all(cell[2].startswith("$0.") for cell in cells)
    assert project.n_accepted == sent


def test_quote_takes_the_fields_of_a_submission(project):
    """What a retry of some rows would cost is told with the same words."""
    project.simulator.set_scenario(progress="immediate")
    project.execute("all", defs=project.definitions(**ONE))

    result = _run(project, "shots_quote", {"force": True, "prompt_ids": ["p1", "p2"]})

    assert "| all | 2 | $0.02 |" in _told(result, "shots__quote", "mynth/quote")
    assert project.n_accepted == 12


def test_retry_job_needs_no_configuration(project):
    """It asks again for what may end otherwise, as it stands in the launchpad."""
    project.simulator.set_scenario(
        progress="immediate", failures=[{"prompt_contains": "number 3", "first": 1}]
    )
    defs = project.definitions(**ONE)
    project.execute("all", defs=defs)

    assert _run(project, "shots_retry", None).success

    assert project.n_accepted == 13
    assert project.simulator.log()["duplicate_intents"] == []


@pytest.fixture
def in_doubt(project):
    """A project with one row whose answer was lost, in a revision without a task list."""
    project.settings["api_revision"] = "2026-04"
    project.simulator.set_scenario(
        revision="2026-04",
        progress="immediate",
        faults=[{"kind": "lost_answer", "prompt_contains": "number 3", "first": 1}],
    )
    project.execute("all", defs=project.definitions(**ONE))
    return project


def _intents(project):
    result = _run(project, "shots_resolve", None)
    rows = _told(result, "shots__resolve", "mynth/list").splitlines()[2:]
    return [row.split("|")[1].strip().replace("\\_", "_") for row in rows]


def test_the_check_names_the_row_in_doubt(in_doubt):
    """With its code and what to do, by the run that collected it."""
    key = dg.AssetCheckKey(dg.AssetKey(["shots", "failures"]), "nothing_unresolved")
    shown = in_doubt.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    told = shown[key].event.dagster_event.event_specific_data.metadata["mynth/codes"].value

    assert told.startswith("1 outcome_unknown, as in p3. Next: It is not sent again by itself")


def test_resolve_lists_what_is_in_doubt(in_doubt):
    """Without configuration it lists and changes nothing."""
    (intent,) = _intents(in_doubt)

    assert intent.startswith("int_")
    assert _intents(in_doubt) == [intent]


def test_resolve_resubmits(in_doubt):
    """After `resubmit` the next submission sends the row anew, as its own decision."""
    config = {"action": "resubmit", "intent_ids": _intents(in_doubt)}
    assert _run(in_doubt, "shots_resolve", config).success
    before = in_doubt.n_accepted

    in_doubt.execute("all", defs=in_doubt.definitions(**ONE))

    assert in_doubt.n_accepted == before + 1


def test_resolve_attaches_the_task_that_it_was(in_doubt):
    """`attach` reads the task, and nothing is sent again."""
    (intent,) = _intents(in_doubt)
    (task,) = [
        entry["task_id"]
        for entry in in_doubt.simulator.log()["accepted"]
        if entry["intent_id"] == intent
    ]
    config = {"action": "attach", "intent_ids": [intent], "task_id": task}

    assert _run(in_doubt, "shots_resolve", config).success

    assert in_doubt.execute("collect", defs=in_doubt.definitions(**ONE)).success
    assert in_doubt.n_accepted == 12
    key = dg.AssetKey(["shots", "images"])
    record, *_ = in_doubt.instance.fetch_materializations(key, limit=1).records
    assert record.asset_materialization.metadata["dagster/row_count"].value == 12


@pytest.mark.parametrize(
    "config",
    [
        {"action": "abandon"},
        {"action": "attach", "intent_ids": ["int_x"]},
        {"action": "resubmit", "intent_ids": ["int_unknown"]},
        {"action": "abandon", "intent_ids": ["the row in doubt", "int_unknown"]},
    ],
)
def test_wrong_settling_changes_nothing(in_doubt, config):
    """What is missing or unknown is named, and the row stays in doubt, also beside a wrong one."""
    before = _intents(in_doubt)
    if "the row in doubt" in config.get("intent_ids", ()):
        config = {**config, "intent_ids": [*before, "int_unknown"]}

    failed = _run(in_doubt, "shots_resolve", config)

    assert "Money: nothing was sent and nothing was charged. Nothing was changed." in _why(failed)
    assert _intents(in_doubt) == before


def _why(result):
    """What the failed step says for itself."""
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    assert error.cls_name == "Failure"
    return str(error.message).strip().removeprefix("dagster._core.definitions.events.Failure: ")


NO_LEDGER = "postgresql+psycopg://127.0.0.1:9/none"


@pytest.mark.parametrize(
    ("settings", "job", "config", "why", "next_step"),
    [
        ({}, "quote", None, "no `prompts` yet", "mend what it names, then run this job again."),
        ({"base_url": "http://127.0.0.1:9"}, "quote", None, "does not tell", "later run this job"),
        ({"ledger_url": NO_LEDGER}, "resolve", None, "ledger", "later run this job again."),
        ({"api_key": ""}, "resolve", None, "api_key: none is given", "then run this job again."),
        ({}, "stop", {"action": "resume"}, "no batch 'shots'", "then run this job again."),
        ({"ledger_url": NO_LEDGER}, "stop", None, "ledger", "later run this job again."),
    ],
)
def test_a_failed_job_says_why_money_and_next_step(project, settings, job, config, why, next_step):
    """Whatever stands in its way: one sentence each, in the words of every other failure."""
    project.settings |= settings

    said = _why(_run(project, f"shots_{job}", config))

    reason, told = said.split(" Money: nothing was sent and nothing was charged. ")
    assert why in reason
    assert next_step in told.split("Next: ")[1]
    kept = "Whether the ledger kept the last change is not known. "
    assert (kept in told) == (job != "quote" and "ledger_url" in settings)


def test_an_error_outside_of_the_work_fails_in_the_same_words(project):
    """Also one of a body of the user's own."""

    def body(context, mynth):
        yield from ()
        raise ConfigError("studio", "is closed")

    defs = project.definitions(**ONE, body=body)

    said = _why(project.execute("submit", defs=defs))

    assert said == (
        "studio: is closed. Money: nothing was sent and nothing was charged. "
        "Next: mend what it names, then run it again: only what is still missing is sent."
    )


def test_the_stop_job_stops_and_resumes(project):
    """Who, when and why are told in the sensor's message; the sensor goes on once it is lifted."""
    wrong = {"action": "stop", "reason": "wrong prompts"}
    project.execute("submit", FIRST)
    n_sent = project.n_accepted
    stopped = _run(project, "shots_stop", wrong, project.definitions(), tags={"user": "ann"})

    assert stopped.success
    assert "ann by Dagster run" in _told(stopped, "shots__stop", "mynth/stopped")
    refused = project.execute("submit", LAST)
    assert not refused.success
    assert project.n_accepted == n_sent
    project.execute("collect", LAST)
    said = project.tick().skip_message
    assert "stopped: batch shots, by ann by Dagster run" in said
    assert "wrong prompts" in said

    lifted = _run(project, "shots_stop", {"action": "resume"}, project.definitions())

    assert _told(lifted, "shots__stop", "mynth/stopped") == "nothing is stopped"
    assert project.execute("submit", LAST).success
    assert project.n_accepted == 12


def test_a_partition_that_is_not_there_is_not_stopped(project):
    """In one sentence, and nothing is changed."""
    project.execute("submit", FIRST)
    config = {"action": "stop", "partition": "2026-11-19"}

    result = _run(project, "shots_stop", config, project.definitions())

    assert "has no partition '2026-11-19'" in _why(result)
