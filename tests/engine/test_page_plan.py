"""Which pages are asked for, as a law: whatever the list looks like, nothing pending is missed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mynth_dagster.engine.poll import OVERTAKING_MAX, PagePlan


class Task:
    """As much of an intent as polling looks at."""

    def __init__(self, place: int, *, pending: bool) -> None:
        self.task_id = f"tsk_{place}"
        self.is_finished_remotely = not pending

    def __repr__(self) -> str:
        return self.task_id


@st.composite
def lists(draw, foreign_max: int = 400, moved_max: int = OVERTAKING_MAX):
    """Our tasks with any pattern of pending ones, and Mynth's list: newest first, with others'."""
    n_tasks = draw(st.integers(1, 600))
    density = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
    random = draw(st.randoms(use_true_random=False))
    tasks = [Task(place, pending=random.random() < density) for place in range(n_tasks)]
    reach = draw(st.integers(0, moved_max // 2))
    order = sorted(range(n_tasks), key=lambda place: place + random.uniform(-reach, reach))
    entries = [tasks[place].task_id for place in order]
    for _ in range(draw(st.integers(0, 5))):
        at, n_foreign = random.randrange(len(entries) + 1), random.randrange(foreign_max)
        entries[at:at] = [f"other_{at}_{n}" for n in range(n_foreign)]
    if draw(st.booleans()):  # strewn singly as well
        for n in range(n_tasks):
            entries.insert(random.randrange(len(entries) + 1), f"lone_{n}")
    return tasks, entries[::-1]


def read_through(tasks, entries, page_size):
    """All pages: what was shown, what was missed, and the pages it took."""
    plan, shown, n_pages = PagePlan(tasks, tasks, page_size), [], 0
    at = {entry: place for place, entry in enumerate(entries)}
    bound = 2 * (len(entries) // page_size + len(tasks)) + 2
    while not plan.is_over:
        start = 0 if plan.after is None else at[plan.after] + 1
        shown += plan.note(entries[start : start + page_size])
        n_pages += 1
        assert n_pages <= bound, "the plan does not come to its end"
    return shown, plan.missed, n_pages


@settings(max_examples=60, deadline=None)
@given(lists(), st.sampled_from([20, 73, 100]))
def test_every_pending_task_is_shown_or_missed_exactly_once(made, page_size):
    """Any pattern of pending tasks, any overtaking within the margin, others' tasks between."""
    tasks, entries = made

    shown, missed, _ = read_through(tasks, entries, page_size)

    found = sorted(task.task_id for task in [*shown, *missed])
    assert found == sorted(task.task_id for task in tasks if not task.is_finished_remotely)


@settings(max_examples=40, deadline=None)
@given(lists(foreign_max=1), st.sampled_from([73, 100]))
def test_among_our_own_tasks_nothing_is_missed(made, page_size):
    """Within the margin of overtaking, a status request is needed for none."""
    tasks, entries = made
    own = [entry for entry in entries if entry.startswith("tsk")]

    _, missed, n_pages = read_through(tasks, own, page_size)

    assert missed == []
    assert n_pages <= len(own) // page_size + 1


@settings(max_examples=40, deadline=None)
@given(lists(moved_max=600), st.data())
def test_a_list_in_any_order_with_gaps_ends_all_the_same(made, data):
    """Overtaking beyond the margin and tasks that the list lacks: missed at worst, never lost."""
    tasks, entries = made
    gaps = data.draw(st.sets(st.sampled_from([t.task_id for t in tasks]), max_size=20))
    anchors = {task.task_id for task in tasks} - gaps
    listed = [entry for entry in entries if entry not in gaps]
    plan, shown, n_pages = PagePlan(tasks, tasks, 100), [], 0
    while not plan.is_over:
        known = plan.after is None or plan.after in anchors or plan.after in listed
        start = (
            listed.index(plan.after) + 1 if plan.after in listed else (0 if known else len(listed))
        )
        shown += plan.note(listed[start : start + 100])
        n_pages += 1
        assert n_pages <= 2 * (len(listed) // 100 + len(tasks)) + 2

    found = sorted(task.task_id for task in [*shown, *plan.missed])
    assert found == sorted(task.task_id for task in tasks if not task.is_finished_remotely)


def test_pages_without_a_pending_task_are_jumped_over():
    """Ten thousand tasks, the oldest fifty pending: a page or three, not a hundred."""
    tasks = [Task(place, pending=place < 50) for place in range(10_000)]
    entries = [task.task_id for task in reversed(tasks)]

    shown, missed, n_pages = read_through(tasks, entries, 100)

    assert (len(shown), missed) == (50, [])
    assert n_pages <= 3


def test_all_pending_tasks_cost_one_page_a_hundred():
    """A hundred thousand statuses in a thousand requests, in linear time."""
    tasks = [Task(place, pending=True) for place in range(100_000)]
    entries = [task.task_id for task in reversed(tasks)]

    shown, missed, n_pages = read_through(tasks, entries, 100)

    assert (len(shown), missed, n_pages) == (100_000, [], 1_000)


def test_a_long_stretch_of_others_is_not_read_again_and_again():
    """Another batch with the same key on top: a few status requests, then on."""
    tasks = [Task(place, pending=True) for place in range(1_000)]
    entries = [f"other_{n}" for n in range(5_000)] + [t.task_id for t in reversed(tasks)]

    shown, missed, n_pages = read_through(tasks, entries, 100)

    assert len(missed) <= OVERTAKING_MAX
    assert len(shown) + len(missed) == 1_000
    assert n_pages <= 12
