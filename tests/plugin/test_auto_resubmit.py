"""The completion sensor asks for a run that sends again what was held up by what passes."""

from __future__ import annotations

import asyncio

import dagster as dg
import pytest

from mynth_dagster.ledger import Ledger
from mynth_dagster.models.transitions import IntentState
from tests.ageing import make_older
from tests.batches import make_batch

DAY = "2026-11-19"
FIRST, LAST = f"{DAY}|000", f"{DAY}|001"
TOO_MUCH = {"kind": "rate_limited", "retry_after_s": 301}
NEVER_TAKEN = {"kind": "reset", "prompt_contains": "number 3", "first": 1}
SUBMIT, COLLECT = "shots_submit", "shots_collect"


def _url(project) -> str:
    return f"sqlite:///{project.folder / 'data' / 'mynth-ledger.db'}"


def _clear(project) -> int:
    """As two walks over the task list would: what is in doubt was not accepted."""
    ledger = Ledger.open(_url(project))
    try:
        slices = make_batch("shots", fan_out=2).slices(DAY)
        doubts = ledger.read.unresolved("shots", slices, [IntentState.UNRESOLVED])
        return asyncio.run(ledger.mark_not_accepted(doubts, "nothing was found"))
    finally:
        ledger.close()


def _requests(project, defs=None, job=SUBMIT):
    return [request for request in project.tick(defs).run_requests if request.job_name == job]


def _run(project, request):
    """The run that is asked for, as the daemon launches it."""
    return (
        project.definitions()
        .resolve_job_def(request.job_name)
        .execute_in_process(
            instance=project.instance,
            partition_key=request.partition_key,
            asset_selection=request.asset_selection,
            tags={k: v for k, v in request.tags.items() if not k.startswith("dagster/partition")},
            raise_on_error=False,
        )
    )


def _limited(project):
    """A run that stopped, since Mynth asked for less; Mynth is well again."""
    project.simulator.set_scenario(faults=[TOO_MUCH])
    assert not project.execute("submit", FIRST, LAST).success
    project.simulator.set_scenario(faults=[])


def _with_a_row_not_accepted(project):
    project.simulator.set_scenario(faults=[NEVER_TAKEN])
    project.execute("submit", FIRST, LAST)
    project.simulator.set_scenario(faults=[])
    assert _clear(project) == 1


def test_after_a_rate_limit_the_rest_is_sent_by_itself(project):
    """Minutes later, by one run over the partitions, of tasks alone, tagged with the reason."""
    _limited(project)
    assert _requests(project) == []
    make_older(_url(project), 6)

    (request,) = _requests(project)

    assert request.tags["mynth/auto_resubmit"] == "rate_limited"
    assert request.asset_selection == [dg.AssetKey(["shots", "tasks"])]
    assert _run(project, request).success
    assert project.n_accepted == 12
    assert project.simulator.log()["duplicate_intents"] == []
    assert sorted(project.recorded("tasks")) == [FIRST, LAST]
    assert _requests(project) == []


def test_partitions_that_the_stopped_run_never_reached_wait_as_long(project):
    """One run for all of them, minutes after the stop; none at once."""
    project.settings["concurrency"] = 1
    _limited(project)
    assert _requests(project) == []
    make_older(_url(project), 6)

    (request,) = _requests(project)

    assert _run(project, request).success
    assert sorted(project.recorded("tasks")) == [FIRST, LAST]


def test_rows_not_accepted_are_sent_by_the_run_that_is_asked_for(project):
    """Each once: what was accepted before is not sent again."""
    _with_a_row_not_accepted(project)
    assert project.n_accepted == 11
    make_older(_url(project), 6)

    (request,) = _requests(project)
    assert request.tags["mynth/auto_resubmit"] == "not_accepted"
    assert _run(project, request).success

    assert project.n_accepted == 12
    assert project.simulator.log()["duplicate_intents"] == []
    project.simulator.complete()
    assert [request.job_name for request in project.tick().run_requests] == [COLLECT]


def test_a_row_in_doubt_is_not_sent(project):
    """Not by a tick, not by the run that is asked for after an outage."""
    project.settings["concurrency"] = 2
    project.simulator.set_scenario(faults=[{"kind": "lost_answer"}])
    assert not project.execute("submit", FIRST, LAST).success
    n_lost = project.n_accepted
    assert n_lost >= 2
    project.simulator.set_scenario(faults=[{"route": "GET /tasks", "kind": "status"}])
    make_older(_url(project), 60)
    assert _requests(project) == []
    project.simulator.set_scenario(faults=[])

    (request,) = _requests(project)  # the tick found the tasks of the lost answers

    assert request.tags["mynth/auto_resubmit"] == "outage"
    assert _run(project, request).success
    assert project.n_accepted == 12
    assert project.simulator.log()["duplicate_intents"] == []


def test_prompts_that_changed_since_are_not_sent(project):
    """The run sends what the table of prompts had; edits wait for a run that somebody wants."""
    _limited(project)
    make_older(_url(project), 6)
    project.write_prompts([f"a blue kite, number {index}" for index in range(40)])

    (request,) = _requests(project)
    _run(project, request)

    prompts = {entry["prompt"] for entry in project.simulator.log()["accepted"]}
    assert project.n_accepted == 12
    assert all(prompt.startswith("a red kite") for prompt in prompts)


@pytest.mark.parametrize(
    "scenario",
    [
        {"balance_usd": "0.05"},
        {"api_keys": [{"key": "mak_simulator", "spending_limit_usd": "0.05"}]},
    ],
    ids=["balance", "limit"],
)
def test_money_is_never_asked_for(project, scenario):
    """However long ago, and even if there is money again."""
    project.simulator.set_scenario(**scenario)
    assert not project.execute("submit", FIRST, LAST).success
    project.simulator.set_scenario(balance_usd="100", api_keys=[{"key": "mak_simulator"}])
    make_older(_url(project), 600)

    assert _requests(project) == []


def test_a_budget_is_never_asked_for(project):
    """Rows beyond the cap wait for a person to raise it."""
    defs = project.definitions(budget_usd={"window": "0.05"})
    assert not project.execute("submit", FIRST, LAST, defs=defs).success
    make_older(_url(project), 600)

    assert _requests(project, defs) == []


def test_it_may_be_turned_off(project):
    """Then the next run that somebody starts sends them."""
    _limited(project)
    make_older(_url(project), 6)
    defs = project.definitions(auto_resubmit=False)

    assert _requests(project, defs) == []


def test_a_partition_with_an_active_run_is_left_alone(project):
    """Whatever of the batch it does there; its neighbour is asked for by its key."""
    _limited(project)
    make_older(_url(project), 6)
    job = project.definitions().resolve_job_def("shots_all")
    status, tags = dg.DagsterRunStatus.STARTED, {"dagster/partition": FIRST}
    project.instance.create_run_for_job(job, tags=tags, status=status)

    (request,) = _requests(project)

    assert request.partition_key == LAST


def test_a_run_that_was_asked_for_counts(project):
    """Ticks that overlap ask under one key; after a run that failed the next one waits longer."""
    _limited(project)
    make_older(_url(project), 6)
    (request,), (same,) = _requests(project), _requests(project)
    assert same.run_key == request.run_key

    job = project.definitions().resolve_job_def(SUBMIT)
    status = dg.DagsterRunStatus.FAILURE
    project.instance.create_run_for_job(job, tags=dict(request.tags), status=status)

    assert _requests(project) == []


def test_a_run_that_sent_nothing_of_what_rests_is_not_asked_for_again(project):
    """Rows that left the table stay cleared for ever; the ledger remembers, version by version."""
    _with_a_row_not_accepted(project)
    project.write_prompts(["a red kite, number 0"])
    project.execute("submit", FIRST, LAST)
    make_older(_url(project), 6)
    (request,) = _requests(project)

    assert _run(project, request).success

    assert project.n_accepted == 11
    assert _requests(project) == []
    for run in project.instance.get_runs():
        project.instance.delete_run(run.run_id)
    assert _requests(project) == []


def test_a_tick_that_asks_for_a_run_sends_nothing_itself(project):
    """Free reads only, as ever."""
    _limited(project)
    make_older(_url(project), 6)
    before = project.simulator.log()["requests"]

    assert _requests(project)

    after = project.simulator.log()["requests"]
    new = {route for route, n in after.items() if n > before.get(route, 0)}
    assert all(route.startswith("GET ") for route in new)
