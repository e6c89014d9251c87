"""Rows that are sent again by themselves: for which reasons, when, and how often."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.auto_resubmit import Reason, RequestedRun, is_due, reasons_to_resubmit
from mynth_dagster.engine.plan import RunOptions
from mynth_dagster.ledger.queries import PartitionRow, Resting
from mynth_dagster.ledger.stops import Stop
from mynth_dagster.models.batch import Slice

MINUTE_US = 60 * US_PER_S
NOW_US = 10_000 * MINUTE_US
ROW = PartitionRow("shots", "2026-11-19", "000", 3, 3, None, None, None)
NOTHING, NOT_ACCEPTED, DOUBT = Resting(), Resting(n_not_accepted=2), Resting(n_unsearched=1)


def _reason(resting, others=MappingProxyType({}), stops=(), **row):
    place = ROW.window, ROW.fan_out
    return reasons_to_resubmit([replace(ROW, **row)], {place: resting, **others}, stops).get(place)


@pytest.mark.parametrize(
    ("stop_code", "resting", "reason"),
    [
        ("rate_limited", NOTHING, Reason.RATE_LIMITED),
        ("unreachable", NOTHING, Reason.OUTAGE),
        ("outcomes_unknown", NOTHING, Reason.OUTAGE),
        ("outcomes_unknown", DOUBT, None),
        ("stopped", NOTHING, Reason.RESUMED),
        (None, NOT_ACCEPTED, Reason.NOT_ACCEPTED),
        (None, NOTHING, None),
        (None, DOUBT, None),
    ],
)
def test_only_what_passes_by_itself_is_a_reason(stop_code, resting, reason):
    """An outage is over when what became of its rows is known; doubt alone is no reason."""
    assert _reason(resting, stop_code=stop_code) is reason


def test_what_a_person_stopped_waits_until_it_is_resumed():
    """Whatever stopped a run before: a run would not get anywhere."""
    here = Stop("shots", "2026-11-19", "000", "ann", "wrong prompts", NOW_US)
    elsewhere = replace(here, fan_out="001")

    for code in ("stopped", "unreachable"):
        assert _reason(NOT_ACCEPTED, stops=[here], stop_code=code) is None
        assert _reason(NOT_ACCEPTED, stops=[elsewhere], stop_code=code) is not None


def test_an_outage_is_not_over_while_a_neighbour_is_in_doubt():
    """Its answers may be lost again; what happened in other windows tells nothing."""
    stopped = {"stop_code": "outcomes_unknown"}

    assert _reason(NOTHING, {("2026-11-19", "001"): DOUBT}, **stopped) is None
    assert _reason(NOTHING, {("2026-11-18", "000"): DOUBT}, **stopped) is Reason.OUTAGE


@pytest.mark.parametrize(
    "stop_code",
    [
        "insufficient_balance",
        "spending_limit_exceeded",
        "budget_exceeded",
        "unauthorized",
        "configuration",
        "gateway",
        "refused_repeatedly",
        "cancelled",
        "interrupted",
        "failed",
    ],
)
def test_money_keys_settings_and_people_are_never_overruled(stop_code):
    """Not even for rows that were cleared: a run would meet the same wall, or a person's wish."""
    assert _reason(NOT_ACCEPTED, stop_code=stop_code) is None


def test_a_run_that_sends_or_was_killed_is_left_alone():
    """Who goes on with a killed run is for Dagster's retries and people to say."""
    assert _reason(NOT_ACCEPTED, submitter="a run") is None


def _asked(*minutes_ago: float) -> list[RequestedRun]:
    at = (NOW_US - round(minutes * MINUTE_US) for minutes in minutes_ago)
    return [RequestedRun(Slice(), at_us, has_sent_all=False) for at_us in at]


@pytest.mark.parametrize(
    ("tried_minutes_ago", "asked_minutes_ago", "expected"),
    [
        (4.9, [], False),
        (5, [], True),
        (19, [20], False),
        (20, [20], True),
        (60, [19], False),
        (79, [100, 79], False),
        (80, [100, 80], True),
        (300, [300, 290, 280], False),
    ],
)
def test_each_run_is_waited_for_longer_and_three_are_enough(
    tried_minutes_ago, asked_minutes_ago, expected
):
    """5, 20 and 80 minutes after the last try or the last run that was asked for."""
    tried_at_us = NOW_US - round(tried_minutes_ago * MINUTE_US)

    assert is_due(NOW_US, tried_at_us, _asked(*asked_minutes_ago)) is expected


def test_a_run_for_some_rows_neither_has_the_others_sent_nor_forgets_them(new_bench):
    """What stopped it is not said of the partition; what stopped the nightly run stays said."""
    limited = [{"kind": "rate_limited", "after": 2, "retry_after_s": 900.0}]
    work = new_bench(faults=limited)
    some = RunOptions(prompt_ids=frozenset({"p00000", "p00001", "p00002"}))
    stop_code = "SELECT stop_code FROM partitions"

    assert work.run(20, options=some).stopped == "rate_limited"
    assert work.query(stop_code) == [(None,)]
    assert work.run(20).stopped == "rate_limited"
    work.server.set_scenario(faults=())
    assert work.run(20, options=some).stopped is None

    assert work.query(stop_code) == [("rate_limited",)]
    assert len(work.log["accepted"]) == 3
