"""A server, or an edge before it, that lists our tasks wrongly: no paid task is called absent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mynth_dagster.engine.lost_responses import resolve_unresolved
from mynth_dagster.engine.work import ImageWork
from tests.batches import make_batch
from tests.engine.bench import NO_LIST, Bench
from tests.engine.edge import Change, HostileEdge, of_list, of_tasks, without_tag
from tests.factories import MODEL

BATCH = make_batch("b", models=(MODEL,))
LOST_ANSWERS = [{"kind": "lost_answer", "every": 4, "first": 20}, NO_LIST]
LOST_REQUESTS = [{"kind": "reset", "every": 4, "first": 20}, NO_LIST]
DAY_S = 86_400.0


def of_entries(**fields: Any) -> Change:
    return of_list(lambda page: [{**entry, **fields} for entry in page])


class FirstPage:
    """A cache that does not look at what comes behind the path."""

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] | None = None

    def __call__(self, page: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._kept is None:
            self._kept = page[:10]
        return self._kept


def search(work: Bench, change: Change, **edge: int) -> None:
    """As often as it takes to clear a row, late enough each time."""

    async def once() -> None:
        async with work.session(HostileEdge(change, **edge)) as session:
            await resolve_unresolved(session, ImageWork(BATCH), None)

    work.server.set_scenario(faults=())
    for _ in range(3):
        work.clock.advance(DAY_S)
        asyncio.run(once())


def lost_tasks(work: Bench) -> set[str]:
    """What Mynth made and the ledger does not know."""
    known = {task_id for (task_id,) in work.query("SELECT task_id FROM intents")}
    return {entry["task_id"] for entry in work.log["accepted"]} - known


def unchanged(_: str, body: Any) -> Any:
    return body


@pytest.mark.parametrize(
    ("change", "edge"),
    [
        (unchanged, {"skew_days": 1}),
        (of_entries(created_at="2026-11-22T00:00:00.000Z"), {}),
        (of_entries(created_at="1970-01-01T00:00:00Z"), {}),
        (of_entries(created_at="2026-11-22T00:00:00"), {}),
        (of_entries(created_at=None), {}),
        (of_entries(type="image.generation.v2"), {}),
        (of_entries(status="archived"), {}),
    ],
    ids=["date", "equal times", "epoch", "no zone", "no time", "unknown type", "unknown status"],
)
def test_what_a_list_says_of_times_and_types_is_not_needed(new_bench, change, edge):
    """The tasks of lost answers are found by their tags, whatever their entries look like."""
    work = new_bench(faults=LOST_ANSWERS)
    assert work.run(40).unresolved == 5

    search(work, change, **edge)

    assert work.states() == {"accepted": 5, "completed": 35}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of_list(lambda _: []), "does not show all tasks"),
        (of_list(FirstPage()), "repeats itself"),
        (of_list(lambda page: page[::2]), "does not show all tasks"),
        (of_list(lambda page: page[::-1]), "not in order"),
        (of_tasks(without_tag), "comes back without the tag"),
        (of_tasks(lambda task: {**task, "id": "tsk_other"}), "no task of ours could be read"),
    ],
    ids=["empty", "one page for ever", "every second", "oldest first", "no tags", "wrong ids"],
)
def test_a_list_that_cannot_be_trusted_proves_nothing(new_bench, change, said):
    """It hides five tasks that were paid for: their rows are held, and it is said why."""
    work = new_bench(faults=LOST_ANSWERS)
    assert work.run(40).unresolved == 5
    hidden = lost_tasks(work)
    hide = of_list(lambda page: [entry for entry in page if entry["id"] not in hidden])

    search(work, lambda path, body: change(path, hide(path, body)))

    reasons = [why for (why,) in work.query("SELECT held_because FROM intents") if why]
    assert work.states() == {"completed": 35, "unresolved": 5}
    assert len(reasons) == 5
    assert all(said in why for why in reasons), reasons
    assert work.run(40).posts_sent == 0


def test_an_untagged_task_that_asks_for_the_same_stands_in_the_way(new_bench):
    """One row's task lost its tag on the way: that row alone is held, the others are cleared."""
    work = new_bench(
        faults=[{"kind": "lost_answer", "prompt_contains": "prompt 7"}, *LOST_REQUESTS]
    )
    n_unresolved = work.run(40).unresolved
    (lost,) = lost_tasks(work)

    search(work, of_tasks(lambda task: without_tag(task) if task["id"] == lost else task))

    assert work.states() == {
        "completed": 40 - n_unresolved,
        "not_accepted": n_unresolved - 1,
        "unresolved": 1,
    }
    (reason,) = [why for (why,) in work.query("SELECT held_because FROM intents") if why]
    assert f"{lost} has no tag" in reason
