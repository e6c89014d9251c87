"""Answers that are another task's, or no answer: nothing is downloaded under the wrong row."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.engine.bench import Bench
from tests.engine.edge import HostileEdge, of_tasks, without_tag
from tests.factories import KEY


def require_own_images(work: Bench) -> None:
    """Each row shows the image that Mynth made for its own prompt, as Mynth itself says."""
    headers = {"authorization": f"Bearer {KEY}"}
    made = {}
    for entry in work.log["accepted"]:
        answer = httpx.get(f"{work.server.url}/tasks/{entry['task_id']}", headers=headers)
        (image,) = answer.json()["data"]["result"]["images"]
        made[entry["prompt"]] = image["id"]
    shown = {row["prompt"]: row["image_id"] for row in work.table("images")}
    assert shown == made


class MixedUp:
    """A cache that gives every task that is read in place of the one before it, for a while."""

    def __init__(self, n: int, *, keeps_id: bool) -> None:
        self._left = n
        self._keeps_id = keeps_id
        self._before: dict[str, Any] | None = None

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        before, self._before = self._before, task
        if before is None or task["status"] == "pending" or self._left == 0:
            return task
        self._left -= 1
        return {**before, "id": task["id"]} if self._keeps_id else before


@pytest.mark.parametrize("keeps_id", [True, False])
def test_a_cache_that_mixes_up_tasks_files_nothing_under_another_row(new_bench, keeps_id):
    """By the id, or where that was rewritten by the tag; each row gets its own in the end."""
    work = new_bench()

    report = work.run(20, transport=HostileEdge(of_tasks(MixedUp(15, keeps_id=keeps_id))))

    assert report.images == 20
    require_own_images(work)
    work.require_sound(20)


def test_a_task_without_its_tag_is_not_shown_where_tags_come_back(new_bench):
    """Ten rows prove that they do; the eleventh task may be anybody's until it carries its own."""
    work = new_bench()
    work.run(10)

    for pause_s in (0.0, 120.0):
        work.clock.advance(pause_s)
        work.run(11, transport=HostileEdge(of_tasks(without_tag)), deadline_s=60.0)

    (failure,) = work.table("failures")
    assert (failure["status"], failure["money"]) == ("stalled", "unknown")
    assert work.run(11).images == 11
    work.require_sound(11)


def test_a_server_that_never_gives_tags_back_is_no_obstacle(new_bench):
    """Nothing is known of such tags: the id has to be enough."""
    work = new_bench()

    report = work.run(10, transport=HostileEdge(of_tasks(without_tag)))

    assert report.images == 10
    work.require_sound(10)


def test_a_deadline_is_kept_when_a_status_says_finished_and_the_task_does_not(new_bench):
    """A cached status does not make a row wait for ever: it is stalled in time."""
    work = new_bench()
    pending = of_tasks(lambda task: {**task, "status": "pending", "result": None})

    said = []
    for pause_s in (0.0, 600.0):
        work.clock.advance(pause_s)
        report = work.run(6, transport=HostileEdge(pending), deadline_s=600.0)
        said.append(report.rows_by_status)

    assert said == [{"accepted": 6}, {"stalled": 6}]
    assert work.run(6).images == 6
    assert work.n_posts == 6


@pytest.mark.parametrize("cost", ["-5.00", "90000000000", "1e30", "NaN", True])
def test_an_absurd_cost_gives_nobody_room(new_bench, cost):
    """It is unknown: what was held for the task stays held against the caps."""
    work = new_bench()

    report = work.run(5, transport=HostileEdge(of_tasks(lambda task: {**task, "cost": cost})))

    assert report.images == 5
    held, spent = work.query("SELECT unknown_units, spent_units FROM partitions")[0]
    quoted = sum(units for (units,) in work.query("SELECT quoted_units FROM intents"))
    assert (held, spent) == (quoted, 0)
