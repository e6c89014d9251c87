"""Mynth is away at some moment of a run: what is left, what goes on, and what may be retried."""

from __future__ import annotations

import dagster as dg
import pytest

from tests.ageing import make_older

pytestmark = pytest.mark.usefixtures("no_pauses")

FIRST, LAST = "2026-11-19|000", "2026-11-19|001"
AWAY = {"route": "*", "kind": "status", "status": 503}
GONE = {"route": "*", "kind": "reset"}
MINUTES = 120


def _url(project) -> str:
    return f"sqlite:///{project.folder / 'data' / 'mynth-ledger.db'}"


def _message(result) -> str:
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    return str(failure.step_failure_data.error.to_string())


def _launch(project, request):
    """A run that the sensor asks for, as the daemon launches it."""
    job = project.definitions().resolve_job_def(request.job_name)
    return job.execute_in_process(
        instance=project.instance,
        partition_key=request.partition_key,
        asset_selection=request.asset_selection,
        tags={k: v for k, v in request.tags.items() if not k.startswith("dagster/partition")},
        raise_on_error=False,
    )


def _go_on(project) -> list[dg.RunRequest]:
    """Ticks and the runs that they ask for, with time between, until they ask for none."""
    asked: list[dg.RunRequest] = []
    while True:
        make_older(_url(project), MINUTES)
        requests = project.tick().run_requests
        if not requests:
            return asked
        for request in requests:
            _launch(project, request)
        asked += requests


@pytest.mark.parametrize(
    ("fault", "n_before"), [(GONE, 0), *((AWAY, n_before) for n_before in range(6))]
)
def test_outage_before_the_first_row_is_gone_on_after(project, fault, n_before):
    """Whichever free request fails: known to the sensor, which has every row sent once."""
    project.simulator.set_scenario(progress="immediate", faults=[{**fault, "after": n_before}])
    first = project.execute("submit", FIRST, LAST)
    project.simulator.set_scenario(progress="immediate", faults=[])

    asked = _go_on(project)

    assert not first.success
    assert [r.job_name for r in asked] == ["shots_submit", "shots_collect"]
    assert project.n_accepted == 12
    assert project.simulator.log()["duplicate_intents"] == []
    assert set(project.recorded("images")) == {FIRST, LAST}


def test_outage_of_later_nights_is_gone_on_after(project):
    """When the ledger knows revision and account, a first look that fails is known as well."""
    project.execute("submit", FIRST, LAST)
    project.simulator.set_scenario(faults=[AWAY])
    result = project.execute("submit", "2026-11-20|000", "2026-11-20|001")
    project.simulator.set_scenario(faults=[])
    assert not result.success
    assert "nothing was sent and nothing was charged" in _message(result)
    assert "the completion sensor starts a run that goes on" in _message(result)

    asked = _go_on(project)

    assert [r.tags["mynth/auto_resubmit"] for r in asked if r.job_name == "shots_submit"] == [
        "outage"
    ]
    assert project.n_accepted == 24


def test_look_at_prompts_leaves_nothing_to_be_sent(project):
    """A run of `prompts` alone that met an outage is never followed by one that pays."""
    job = project.definitions().resolve_job_def("shots_submit")
    project.simulator.set_scenario(faults=[AWAY])
    job.execute_in_process(
        instance=project.instance,
        partition_key=FIRST,
        asset_selection=[dg.AssetKey(["shots", "prompts"])],
        raise_on_error=False,
    )
    project.simulator.set_scenario(faults=[])

    assert _go_on(project) == []
    assert project.n_accepted == 0


@pytest.mark.parametrize("is_known", [False, True], ids=["first night", "later"])
def test_run_for_some_rows_leaves_the_others_alone(project, is_known):
    """After an outage of a run with `prompt_ids` nothing is sent that it was not for."""
    if is_known:
        project.execute("submit", FIRST, config={"prompt_ids": ["nobody"]})
    project.simulator.set_scenario(faults=[AWAY])
    project.execute("submit", FIRST, LAST, config={"prompt_ids": ["p1"]})
    project.simulator.set_scenario(faults=[])

    _go_on(project)

    assert project.n_accepted == 0


def _with_retries(project, phase):
    """The batch's job with Dagster's own retries of its steps."""
    defs = project.definitions()
    selection = dg.AssetSelection.assets(["shots", "prompts"], ["shots", "tasks"])
    job = dg.define_asset_job(
        phase,
        selection,
        op_retry_policy=dg.RetryPolicy(max_retries=3),
        executor_def=dg.in_process_executor,
    )
    return dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def(phase)


def test_what_failed_before_anything_was_sent_is_retried(project):
    """Dagster's retry policy takes up a step whose free look-ups failed; each row is sent once."""
    project.simulator.set_scenario(faults=[{**AWAY, "count": 2}])

    result = _with_retries(project, "careful").execute_in_process(
        instance=project.instance, partition_key=FIRST, raise_on_error=False
    )

    assert result.success
    assert any(event.is_step_up_for_retry for event in result.all_events)
    assert project.n_accepted == len(project.simulator.log()["accepted"]) > 0
    assert project.simulator.log()["duplicate_intents"] == []


def test_what_failed_while_it_sent_is_not_retried(project):
    """A step that sent something and stopped ends at once, whatever the policy; the rest waits."""
    project.simulator.set_scenario(balance_usd="0.02")

    result = _with_retries(project, "careful").execute_in_process(
        instance=project.instance, partition_key=FIRST, raise_on_error=False
    )

    assert not result.success
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    assert project.n_accepted == 2
