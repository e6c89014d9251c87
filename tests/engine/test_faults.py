"""Answers that go astray: one accepted POST a row at most, settled by evidence or held."""

from __future__ import annotations

import asyncio
from itertools import cycle

import pytest

from mynth_dagster.engine.lost_responses import ResolveResult, resolve_unresolved
from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.errors import PollFetchError
from mynth_dagster.limits import REVISIONS
from tests.batches import make_batch
from tests.engine.bench import NO_LIST, Bench
from tests.factories import MODEL

LIST, STATUS, FULL = "GET /tasks", "GET /tasks/:id/status", "GET /tasks/:id"

TAKEN = [
    {"kind": "lost_answer"},
    {"kind": "reset_after"},
    {"kind": "truncated"},
    {"kind": "bad_json"},
    {"kind": "html_error", "with_task": True},
    {"kind": "status", "status": 503, "with_task": True},
    {"kind": "status", "status": 408, "code": "timeout", "with_task": True},
    {"kind": "server_error_with_task"},
]
NOT_TAKEN = [
    {"kind": "reset"},
    {"kind": "server_error"},
    {"kind": "html_error"},
    {"kind": "status", "status": 503},
]


def named(rule):
    """A rule's name in the report."""
    return "-".join(str(value) for value in rule.values()) if isinstance(rule, dict) else rule


# Each rule with a task list or without one, by turns; tests/faults tries both with each.
LIST_BY_TURNS = (REVISIONS[0], REVISIONS[-1])


@pytest.mark.parametrize(("revision", "rule"), [*zip(cycle(LIST_BY_TURNS), TAKEN)], ids=named)
def test_a_task_whose_answer_was_lost_is_found_or_held(bench, rule):
    """With a list the run finds it while it waits; without one it is held. Never a second POST."""
    work = bench(faults=[{**rule, "every": 4}])
    has_list = work.server.scenario.revision != "2026-04"
    known = (20, 0) if has_list else (15, 5)

    first = work.run(20)

    assert (first.images, first.unresolved, first.stopped) == (*known, None)
    assert work.n_posts == len(work.log["accepted"]) == 20
    second = work.run(20)
    assert (second.images, second.unresolved, second.posts_sent) == (*known, 0)
    assert work.n_posts == 20
    work.require_sound(20)


@pytest.mark.parametrize(("revision", "rule"), [*zip(cycle(LIST_BY_TURNS), NOT_TAKEN)], ids=named)
def test_a_request_that_came_to_nothing_is_held_all_the_same(bench, rule):
    """From here it looks like a lost answer: no evidence, no second POST."""
    work = bench(faults=[{**rule, "every": 4}])

    work.run(20)
    second = work.run(20)

    assert (second.images, second.unresolved, second.posts_sent) == (15, 5, 0)
    assert len(work.log["accepted"]) == 15
    failures = work.table("failures")
    assert {row["status"] for row in failures} == {"unresolved"}
    assert {row["money"] for row in failures} == {"unknown"}
    work.require_sound(20)


@pytest.mark.parametrize("field", ["task_id", "taskId"])
def test_an_error_that_tells_the_task_is_an_answer(bench, field):
    """Where its code says that the task runs, the id is taken from the error's body."""
    told = {"code": "public_access_token_failed", "task_id_field": field}
    work = bench(faults=[{"kind": "server_error_with_task", **told, "every": 3}])

    report = work.run(12)

    assert (report.images, report.unresolved) == (12, 0)
    assert work.n_posts == 12
    work.require_sound(12)


def test_an_error_with_an_id_and_another_code_is_no_answer(bench):
    """The API documents no such id: whose it is nobody knows, and the row is in doubt."""
    told = {"code": "internal_error", "task_id_field": "task_id"}
    work = bench(faults=[{"kind": "server_error_with_task", **told, "every": 3}, NO_LIST])

    report = work.run(12)

    assert (report.images, report.unresolved) == (8, 4)
    work.require_sound(12)


def test_a_storm_of_faults_of_all_kinds_is_accounted_for_exactly(bench):
    """Thirty in a hundred answers go wrong, seeded; every task ends in its row."""
    faults = [{**rule, "share": 0.05} for rule in [*TAKEN[:5], *NOT_TAKEN[:2]]]
    faults += [{"route": route, "kind": "server_error", "share": 0.2} for route in (STATUS, FULL)]
    work = bench(faults=faults, seed=7)

    for _ in range(4):
        work.run(90)

    work.server.set_scenario(faults=())
    report = work.run(90)
    n_accepted = len(work.log["accepted"])
    assert report.images + report.unresolved == 90
    if work.server.scenario.revision != "2026-04":
        assert report.images == n_accepted
    work.require_sound(90)


def test_others_tasks_prove_nothing(new_bench, tmp_path, clock):
    """Tasks of another ledger with the same prompts and the same key are never attached."""
    work = new_bench(faults=[{"kind": "reset", "every": 5}])
    work.run(20)
    work.server.set_scenario(faults=())
    (tmp_path / "other").mkdir()
    other = Bench(work.server, clock, tmp_path / "other")
    other.run(20)

    report = work.run(20)

    assert (report.images, report.unresolved) == (16, 4)
    assert {entry["intent_id"] for entry in work.log["accepted"]} > {
        intent for (intent,) in work.query("SELECT intent_id FROM intents WHERE task_id > ''")
    }


def test_a_list_that_cannot_be_read_stops_nobody(new_bench):
    """Evidence has to wait; rows that are not in doubt go on."""
    work = new_bench(faults=[{"kind": "lost_answer", "every": 4}, NO_LIST])
    work.run(8)
    work.server.set_scenario(faults=[NO_LIST])

    report = work.run(12)

    assert (report.posts_sent, report.images, report.unresolved) == (4, 10, 2)
    work.server.set_scenario(faults=())
    assert work.run(12).images == 12


def test_looking_for_evidence_keeps_to_its_time(new_bench):
    """A sensor's tick has a budget: no page is asked for after it."""
    work = new_bench(faults=[{"kind": "lost_answer", "every": 4}])
    work.run(8)
    before = work.log["requests"].get(LIST, 0)

    async def look() -> ResolveResult:
        async with work.session() as session:
            batch = make_batch("b", models=(MODEL,))
            now_s = session.clock.elapsed_s()
            return await resolve_unresolved(
                session, ImageWork(batch), batch.slices(), until_s=now_s
            )

    assert asyncio.run(look()) == ResolveResult()
    assert work.log["requests"].get(LIST, 0) == before


def test_polling_is_cheap_where_there_is_a_list(new_bench):
    """Three hundred tasks: a few pages a round, and each finished task read once."""
    work = new_bench(progress="clock", latency=10)

    assert work.run(300).images == 300
    requests = work.log["requests"]
    assert requests[FULL] == 300
    assert requests[LIST] <= 40
    assert requests.get(STATUS, 0) <= 10


def test_polling_without_a_list_asks_for_each(simulator, clock, tmp_path):
    """One status a task and round, with pauses that grow while nothing happens."""
    server = simulator(clock=clock, revision="2026-04", progress="clock", latency=60)
    work = Bench(server, clock, tmp_path)

    assert work.run(20).images == 20
    assert work.log["requests"][FULL] == 20
    assert work.log["requests"][STATUS] <= 20 * 12


def test_polling_goes_on_while_the_list_fails(new_bench):
    """A broken list is replaced by statuses, a page's worth at a time."""
    fault = {"route": LIST, "kind": "server_error"}
    work = new_bench(progress="clock", latency=10, faults=[fault])

    assert work.run(150).images == 150
    assert work.n_posts == 150


def test_an_outage_of_all_reads_ends_the_wait_and_loses_nothing(new_bench):
    """Bounded, no row failed, nothing sent again; afterwards the run is collected."""
    work = new_bench(progress="clock", latency=10)
    outage = [{"route": route, "kind": "server_error"} for route in (LIST, STATUS)]
    progress = RunProgress(on_quote=lambda *_: work.server.set_scenario(faults=outage))

    with pytest.raises(PollFetchError, match="rounds of polling failed"):
        work.run(6, progress=progress, deadline_s=100_000.0)
    assert work.states() == {"accepted": 6}
    work.server.set_scenario(faults=())
    assert work.run(6).images == 6
    assert work.n_posts == 6


def test_a_finished_task_that_cannot_be_read_does_not_hold_up_the_table(new_bench):
    """The others land, and it is listed as under way until it can be read."""
    work = new_bench(faults=[{"route": FULL, "kind": "bad_json"}])

    report = work.run(3)

    assert (report.images, report.pending) == (0, 3)
    assert {row["money"] for row in work.table("failures")} <= {"unknown", "charged"}
    work.require_sound(3)
    work.server.set_scenario(faults=())
    assert work.run(3).images == 3
    assert work.n_posts == 3


def test_a_status_that_runs_ahead_of_its_task_is_asked_again(new_bench, tmp_path):
    """A task that is listed as finished and reads as pending is read once more, later."""
    work = new_bench(progress="clock", latency=30, quirks={"status_lag_s": 20})

    assert work.run(5).images == 5
