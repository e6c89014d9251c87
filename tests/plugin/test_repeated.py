"""Runs that ask for finished rows again, and are executed again themselves."""

from __future__ import annotations

import pytest

DAY = ("2026-11-19|000", "2026-11-19|001")
FORCE = {"force": True}


@pytest.fixture
def stopped(instant):
    """A project with twelve finished rows, and a forced run that had money for five of them."""
    instant.execute("all", *DAY)
    instant.simulator.set_scenario(progress="immediate", balance_usd="0.05")
    forced = instant.execute("submit", *DAY, config=FORCE)
    assert not forced.success
    assert instant.n_accepted == 12 + 5
    instant.simulator.set_scenario(progress="immediate", balance_usd="100")
    instant.execute("collect", *DAY)
    return instant, forced.run_id


def test_a_forced_run_that_is_executed_again_pays_for_the_rest_alone(stopped):
    """Five of twelve rows were redone when the money ran out: seven are sent by the next try."""
    project, run_id = stopped

    again = project.execute_again(run_id)

    assert again.is_success
    assert project.n_accepted == 12 + 12


def test_the_rest_is_sent_although_another_try_failed_in_between(stopped):
    """A chain of re-executions is one wish, which the first of them began."""
    project, run_id = stopped
    project.simulator.set_scenario(progress="immediate", balance_usd="0.02")
    second = project.execute_again(run_id)
    project.simulator.set_scenario(progress="immediate", balance_usd="100")
    project.execute("collect", *DAY)

    third = project.execute_again(second.run_id)

    assert (second.is_success, third.is_success) == (False, True)
    assert project.n_accepted == 12 + 12


def test_the_rest_is_sent_although_the_first_run_was_deleted(stopped):
    """Dagster may forget old runs; what was paid for is known all the same."""
    project, run_id = stopped
    project.simulator.set_scenario(progress="immediate", balance_usd="0.02")
    second = project.execute_again(run_id)
    project.simulator.set_scenario(progress="immediate", balance_usd="100")
    project.execute("collect", *DAY)
    project.instance.delete_run(run_id)

    project.execute_again(second.run_id)

    assert project.n_accepted == 12 + 12


def test_a_forced_run_that_succeeded_asks_for_every_row_when_it_is_executed_again(instant):
    """Nothing is left to go on with, so it is a wish of its own."""
    instant.execute("all", *DAY)
    forced = instant.execute("submit", *DAY, config=FORCE)
    instant.execute("collect", *DAY)

    instant.execute_again(forced.run_id)

    assert instant.n_accepted == 3 * 12


def test_a_forced_run_says_how_to_go_on(project):
    """The failure names re-execution, since a new run would pay again."""
    project.simulator.set_scenario(balance_usd="0.05")

    result = project.execute("submit", *DAY, config=FORCE)

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "Re-execute this run" in str(failure.step_failure_data.error)
