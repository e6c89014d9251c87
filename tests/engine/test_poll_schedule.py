"""The poll schedule, by arithmetic alone: late by little, and few requests a task."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mynth_dagster.engine.poll import PROBE_MIN_S, PagePlan, PollSample, PollSchedule

MIN_S, MAX_S, PAGE = 0.25, 20.0, 100


@dataclass
class Task:
    """As much of an intent as polling looks at."""

    task_id: str
    sent_at_s: float
    ends_at_s: float
    is_finished_remotely: bool = False


@dataclass(frozen=True)
class Waited:
    """Seconds from the last end until it was seen, requests a task, and the times of the looks."""

    late_s: float
    requests: float
    looks_s: list[float]


def wait_for(
    durations_s: list[float], tasks_a_request: int = PAGE, sent_per_s: float = float("inf")
) -> Waited:
    """Tasks sent in one moment, or one by one, waited for at this schedule."""
    sent_s = [n / sent_per_s for n in range(len(durations_s))]
    ends_s = [sent + duration for sent, duration in zip(sent_s, durations_s, strict=True)]
    tasks = [Task(f"tsk_{n}", *times) for n, times in enumerate(zip(sent_s, ends_s, strict=True))]
    schedule, n_requests, looks_s = PollSchedule(MIN_S, MAX_S, tasks_a_request), 0, []
    looked_s: dict[str, float] = {}
    schedule.begin(0.0)
    while not all(task.is_finished_remotely for task in tasks):
        now_s = schedule.next_at_s
        looks_s.append(now_s)
        there = [task for task in tasks if task.sent_at_s <= now_s]
        pending = [task for task in there if not task.is_finished_remotely]
        oldest = pending[: schedule.n_tasks]
        chosen = [t for t in oldest if now_s - t.sent_at_s >= schedule.min_age_s] or oldest
        n_requests += cost(there, chosen) if tasks_a_request > 1 else len(chosen)
        found = [task for task in chosen if task.ends_at_s <= now_s]
        for task in found:
            task.is_finished_remotely = True
        since_s = {t.task_id: max(t.sent_at_s, looked_s.get(t.task_id, 0.0)) for t in chosen}
        exposure_s = now_s - sum(since_s.values()) / len(chosen)
        schedule.note(
            PollSample(now_s, len(chosen), len(found), len(pending) - len(found), exposure_s)
        )
        if schedule.counted_from_s == now_s:
            looked_s.update(dict.fromkeys(since_s, now_s))
    return Waited(now_s - max(ends_s), n_requests / len(tasks), looks_s)


def cost(tasks: list[Task], chosen: list[Task]) -> int:
    return min(PagePlan(tasks, chosen, PAGE).n_pages_at_best, len(chosen))


def spread(n: int, draw: Callable[[random.Random], float], seed: int) -> list[float]:
    source = random.Random(seed)
    return [draw(source) for _ in range(n)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_tasks", [1_000, 10_000])
def test_tasks_of_one_to_ten_seconds(n_tasks, seed):
    """Half a second late at most, at a twentieth of a request a task."""
    waited = wait_for(spread(n_tasks, lambda r: r.uniform(1, 10), seed))

    assert waited.late_s <= 0.6
    assert waited.requests <= 0.05


@pytest.mark.parametrize("n_tasks", [5_000, 20_000])
def test_tasks_that_are_still_being_sent(n_tasks):
    """The young are left for later: no more requests than for tasks sent in one moment."""
    durations_s = spread(n_tasks, lambda r: r.uniform(1, 10), 1)

    waited = wait_for(durations_s, sent_per_s=1_500)

    assert waited.late_s <= 0.6
    assert waited.requests <= 0.04


def test_what_is_young_is_known_from_the_first_tasks_that_finished():
    """A fifth of the time that they take, never longer than the longest pause."""
    for age_s, expected_s in ((5.0, 2.0), (5_000.0, MAX_S)):
        schedule = PollSchedule(MIN_S, MAX_S, PAGE)
        schedule.begin(0.0)
        assert schedule.min_age_s == 0
        schedule.note(PollSample(age_s, 100, 50, 50, age_s))
        assert schedule.min_age_s == expected_s
        schedule.poll_all()
        assert schedule.min_age_s == 0


@pytest.mark.parametrize(
    ("draw", "late_s"),
    [
        (lambda r: r.uniform(20, 60), 5.0),
        (lambda r: 5 + r.random() / 5, 3.0),
        (lambda r: r.lognormvariate(2, 0.5), MAX_S / 4),
        (lambda r: r.expovariate(0.1), MAX_S / 2),
        (lambda r: r.uniform(3, 6) if r.random() > 0.003 else r.uniform(100, 600), MAX_S),
    ],
    ids=["slow", "all at once", "with a tail", "without memory", "stragglers"],
)
@pytest.mark.parametrize("seed", range(3))
def test_tasks_of_any_kind(draw, late_s, seed):
    """Never later than the longest pause, and within an eighth of a request a task."""
    waited = wait_for(spread(5_000, draw, seed))

    assert waited.late_s <= late_s
    assert waited.requests <= 0.125


def test_where_each_task_costs_a_request_less_than_two_are_made():
    """Without a list: most statuses are asked for when most tasks should be finished."""
    waited = wait_for(spread(1_000, lambda r: r.uniform(1, 10), 1), tasks_a_request=1)

    assert waited.requests <= 2
    assert waited.late_s <= 0.6


def test_one_long_task_is_not_asked_about_all_the_time():
    """Pauses grow to the longest one, and no further."""
    waited = wait_for([600.0])

    pauses_s = [b - a for a, b in zip(waited.looks_s, waited.looks_s[1:], strict=False)]
    assert len(waited.looks_s) <= 40
    assert max(pauses_s) == MAX_S
    assert pauses_s == sorted(pauses_s)


def test_a_first_page_that_hangs_does_not_hide_the_others():
    """The oldest hundred tasks take for ever: more are looked at when the pause is longest."""
    durations_s = [3000.0] * 100 + [5.0] * 400
    schedule = PollSchedule(MIN_S, MAX_S, PAGE)
    schedule.begin(0.0)
    while schedule.n_tasks is not None and schedule.n_tasks <= 100:
        assert schedule.next_at_s < 10 * MAX_S
        schedule.note(PollSample(schedule.next_at_s, 100, 0, 500, schedule.next_at_s))

    assert wait_for(durations_s).late_s <= MAX_S


def test_where_much_is_left_for_long_only_the_oldest_are_looked_at():
    """A hundred thousand tasks that finish at fifty a second: no thousand pages every pause."""
    schedule = PollSchedule(MIN_S, MAX_S, PAGE)
    schedule.begin(0.0)
    schedule.note(PollSample(100.0, 100, 50, 100_000, 100.0))
    schedule.note(PollSample(schedule.next_at_s, 100_000, 1_000, 99_000, 20.0))

    assert schedule.n_tasks is not None
    assert schedule.n_tasks <= 99_000 // 10
    schedule.poll_all()
    assert schedule.n_tasks is None


def test_nothing_to_look_at_is_no_reason_to_hurry():
    """Everything is left to its announcement: the pauses grow all the same."""
    schedule, pauses_s, now_s = PollSchedule(MIN_S, MAX_S, PAGE), [], 0.0
    schedule.begin(now_s)
    for _ in range(12):
        pauses_s.append(schedule.next_at_s - now_s)
        now_s = schedule.next_at_s
        schedule.note(PollSample(now_s, 0, 0, 0, 0.0))

    assert pauses_s[0] == PROBE_MIN_S
    assert pauses_s == sorted(pauses_s)
    assert pauses_s[-1] == MAX_S
