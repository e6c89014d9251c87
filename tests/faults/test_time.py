"""Clocks that are set, machines that sleep: a row may look late, and is never sent for it."""

from __future__ import annotations

import pytest

from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from tests.faults.stage import MINUTE_S

HOUR_S = 60 * MINUTE_S


@pytest.mark.parametrize("jump_s", [24 * HOUR_S, -HOUR_S], ids=["a day on", "an hour back"])
def test_a_wall_clock_that_is_set_while_waiting_sends_nothing(new_stage, jump_s):
    """Each task is collected, whatever the calendar says."""
    work = new_stage(progress="clock", latency=30)
    jumped = []

    def jump(_: object) -> None:
        if not jumped:
            jumped.append(work.clock.jump_wall(jump_s))

    work.run(8, progress=RunProgress(on_round=jump))
    work.run(8)

    assert work.n_posts == 8
    work.finish(8)


@pytest.mark.parametrize("jump_s", [24 * HOUR_S, -24 * HOUR_S])
def test_rows_in_doubt_are_not_cleared_by_a_calendar(stage, jump_s):
    """Searches after a jump prove nothing before real time has passed."""
    work = stage(faults=[{"kind": "reset", "every": 3, "first": 6}])
    assert work.run(12).unresolved == 2
    work.server.set_scenario(faults=())
    n_posts = work.n_posts

    for _ in range(4):
        work.clock.jump_wall(jump_s)
        assert work.run(12).posts_sent == 0

    assert work.n_posts == n_posts
    work.finish(12)


def test_a_machine_that_slept_resumes_without_sending_again(new_stage):
    """Three hours between two looks: tasks are done by then, and simply collected."""
    work = new_stage(progress="clock", latency=60)
    stop = CancelToken()
    work.run(10, stop=stop, progress=RunProgress(on_round=lambda _: stop.set(CANCELLED)))

    work.clock.advance(3 * HOUR_S)

    report = work.run(10)
    assert (report.posts_sent, report.images, report.stalled) == (0, 10, 0)
    work.finish(10)
