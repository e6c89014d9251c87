"""`mynth-dagster follow-up`: paid follow-ups of images from the command line."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def made(new_shell):
    """A shell with three images."""
    work = new_shell()
    work.run(work.prompts(3))
    return work


def follow_up(work, table, *options):
    return work.call("follow-up", table, "--root", str(work.root), "--batch", "kites", *options)


@pytest.mark.parametrize("table", ["ratings", "alt_texts", "reviews"])
def test_each_image_is_asked_about_once(made, table):
    """However often the command is repeated."""
    for _ in range(2):
        result = follow_up(made, table)
        told = json.loads(result.stdout)
        assert (result.exit_code, told["images"], told["answered"]) == (0, 3, 3)

    assert made.server.log()["totals"]["accepted"] == 3 + 3


def test_own_levels_are_given_one_by_one(made):
    """A value and what it means."""
    levels = ["--level", "calm=nothing happens", "--level", "wild=much happens"]
    assert follow_up(made, "ratings", *levels).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["thumbs"], "should be 'ratings', 'alt_texts' or 'reviews'"),
        (["ratings", "--level", "calm"], "value=description"),
        (["ratings", "--effort", "low"], "only reviews have an effort"),
        (["reviews", "--partition", "2026-01-01"], "has no images under"),
    ],
)
def test_what_cannot_be_asked_is_reported_and_costs_nothing(made, arguments, said):
    """Exit code 2, the setting, and what became of the money."""
    result = follow_up(made, *arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "nothing was charged" in result.output


def test_a_budget_stops_it_and_says_so(made):
    """The rows beyond it are withheld, and asked about by a later run with more money."""
    price = ["--price-usd", "image.rate=0.0002"]
    result = follow_up(made, "ratings", "--budget-usd", "0.0005", *price)
    told = json.loads(result.stdout)

    assert (result.exit_code, told["answered"], told["stopped"]) == (1, 2, "budget_exceeded")
    assert "Stopped early (budget_exceeded): The budget" in result.output
    assert "Next: raise the budget, then run it again" in result.output
    assert told["stop_next_step"].startswith("raise the budget")
    again = follow_up(made, "ratings", "--budget-usd", "0.01", *price)
    assert (again.exit_code, json.loads(again.stdout)["answered"]) == (0, 3)


def test_an_error_after_paying_does_not_say_that_nothing_was_charged(made):
    """The key dies between the requests and the polling: what was sent is in the ledger."""
    dead = {"kind": "status", "status": 401}
    of_list = {**dead, "route": "GET /tasks", "after": 1}  # the first look is before the requests
    of_status = {**dead, "route": "GET /tasks/:id/status"}
    made.server.set_scenario(latency=30, faults=[of_list, of_status])
    result = follow_up(made, "ratings")

    assert result.exit_code == 1
    assert "Nothing was sent" not in result.output
    assert "What was sent before is in the ledger" in result.output
