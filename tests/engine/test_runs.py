"""Whole runs against the simulator, in both revisions: exact, repeatable, and paid once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.session import open_session
from mynth_dagster.engine.stop import CANCELLED, CancelToken, StopReason
from mynth_dagster.errors import ConfigError, ConfirmationNeededError, UnauthorizedError
from tests.engine.bench import Bench, prompts
from tests.factories import MODEL

OTHER = "black-forest-labs/flux.2-pro"


def test_every_row_becomes_an_image(bench):
    """Twenty prompts, twenty tasks, twenty images; the money is what the simulator took."""
    work = bench()

    report = work.run(20)

    assert (report.rows, report.images, report.posts_sent) == (20, 20, 20)
    assert report.failures == {}
    assert report.is_accounted_for
    assert f"{report.to_json()['charged_usd']}" == work.log["totals"]["charged"]
    work.require_sound(20)


def test_a_second_run_sends_nothing_and_writes_the_same_bytes(bench):
    """Re-running is free, and the tables do not change by a byte."""
    work = bench()
    work.run(20)
    before = work.bytes_of_tables()

    report = work.run(20)

    assert report.posts_sent == 0
    assert work.n_posts == 20
    assert work.bytes_of_tables() == before


def test_the_folder_for_answers_is_gone_after_a_run(new_bench):
    """Where nothing waits in it; one that somebody chose stays, since it may have been theirs."""
    work = new_bench()

    work.run(2)

    assert [path.name for path in work.folder.rglob("*journal*")] == []
    chosen = work.folder / "chosen"
    chosen.mkdir()
    settings = replace(work.settings(), journal_dir=str(chosen))

    async def visit() -> int:
        async with open_session(settings, clock=work.clock) as session:
            session.ledger.prepare_to_send(settings.journal_folder)
            return len(list(chosen.iterdir()))

    assert asyncio.run(visit()) == 1
    assert list(chosen.iterdir()) == []


def test_only_edited_rows_are_sent_again(new_bench):
    """Ten of fifty rows edited, ten added, ten removed, all of them reordered: twenty POSTs."""
    work = new_bench()
    rows = prompts(50)
    work.run(rows)
    edited = [{**row, "prompt": "new " + row["prompt"]} for row in rows[:10]]
    added = [{"prompt_id": f"new{n}", "prompt": "more"} for n in range(10)]

    report = work.run([*added, *reversed(rows[10:40]), *edited])

    assert report.posts_sent == 20
    assert work.n_posts == 70
    assert report.images == 50
    work.require_sound(50)


def test_prompts_times_models_are_one_request_each(new_bench):
    """Two models: two requests a row, fanned out or not, and never more."""
    work = new_bench()

    assert work.run(5, models=(MODEL, OTHER)).posts_sent == 10
    assert work.run(5, models=(MODEL, OTHER), fan_out="model").posts_sent == 0
    assert len({(row["prompt_id"], row["model_requested"]) for row in work.table("images")}) == 10


def test_another_number_of_shards_pays_nothing(new_bench):
    """Eight shards become sixteen: the rows move, their tasks stay."""
    work = new_bench()
    work.run(60, fan_out=8)
    images = {row["image_id"] for row in work.table("images")}

    report = work.run(60, fan_out=16)

    assert report.posts_sent == 0
    assert work.n_posts == 60
    assert report.images == 60
    assert {row["image_id"] for row in work.table("images")} == images
    assert len(report.tables["images"]) == 16


def test_a_refused_run_leaves_the_reason_of_the_one_before(new_bench):
    """What a rate limit stopped is still sent again by itself, since nothing else happened."""
    work = new_bench()
    work.run(150)
    stop = CancelToken()
    stop.set(StopReason("rate_limited", "Mynth kept answering 429."))
    work.run(150, stop=stop)

    with pytest.raises(ConfirmationNeededError):
        work.run(150, size="square")

    assert work.query("SELECT stop_code, submitter FROM partitions") == [("rate_limited", None)]


def test_an_empty_table_is_a_success(new_bench):
    """No rows, no requests, typed empty tables."""
    work = new_bench()

    report = work.run([{"prompt_id": "a", "prompt": ""}])

    assert (report.rows, report.images, report.posts_sent) == (1, 0, 0)
    assert [row["status"] for row in work.table("failures")] == ["rejected_input"]


FAILURES = [
    {"kind": "task", "prompt_contains": "fails"},
    {"kind": "images", "prompt_contains": "half", "n_images": 1},
    {"kind": "moderation", "prompt_contains": "blocked"},
    {"kind": "refused", "prompt_contains": "refused"},
]
MIXED = [
    {"prompt_id": f"{word}{n}", "prompt": f"{word} {n}", "count": 2}
    for n in range(3)
    for word in ("plain", "fails", "half", "blocked", "refused")
]


def test_what_fails_is_listed_with_its_reason_and_its_money(bench):
    """Failed, partial, moderated and refused rows stand beside the images, each exactly once."""
    work = bench(failures=FAILURES)

    report = work.run(MIXED)

    assert report.rows_by_status == {"completed": 3, "failed": 6, "partial": 3, "rejected": 3}
    assert report.images == 9
    assert report.is_accounted_for
    work.require_sound(15, count=2)
    assert work.run(MIXED).posts_sent == 0


def test_both_revisions_make_the_same_tables(simulator, clock, tmp_path):
    """Apart from ids, URLs and times, and what only one of them tells: codes and reservations."""
    own = {"task_id", "image_id", "url", "mynth_url", "intent_id", "error_message", "error_code"}
    own |= {"submitted_at", "completed_at", "url_expires_at", "money", "retryable", "next_step"}

    def made(revision: str) -> list[list[dict]]:
        server = simulator(clock=clock, revision=revision, failures=FAILURES)
        work = Bench(server, clock, tmp_path / revision)
        work.folder.mkdir()
        work.run(MIXED)
        return [
            [{k: v for k, v in row.items() if k not in own} for row in work.table(name)]
            for name in ("images", "failures")
        ]

    old, new = made("2026-04"), made("2026-08")

    assert old[0] == new[0]
    assert old[1] == new[1]


def test_a_task_past_its_deadline_is_stalled_and_collected_later(new_bench):
    """The run ends without it; a later run reads it, and nothing is paid again."""
    work = new_bench(failures=[{"kind": "stuck", "prompt_contains": "prompt 3"}])

    first = work.run(5, deadline_s=60.0)

    assert (first.images, first.stalled) == (4, 1)
    assert not first.is_accounted_for
    assert [row["status"] for row in work.table("failures")] == ["stalled"]
    work.server.complete([entry["task_id"] for entry in work.log["accepted"]])
    second = work.run(5, deadline_s=60.0)
    assert (second.images, second.stalled, second.posts_sent) == (5, 0, 0)
    assert work.table("failures") == []


def test_one_stalled_task_does_not_end_the_wait_for_others(bench):
    """A task that finishes past its deadline is not counted against one that is pending."""
    work = bench(progress="manual")
    rounds: list[int] = []

    def resolve_one_by_one(waiting) -> None:
        rounds.append(waiting.n_pending)
        pending = [e["task_id"] for e in work.log["charges"] if e["status"] == "pending"]
        if len(rounds) > 3:
            work.server.complete(pending[:1])

    report = work.run(4, progress=RunProgress(on_round=resolve_one_by_one), deadline_s=1800.0)

    assert report.images == 4
    assert rounds[-1] == 0


def test_a_wrong_key_costs_nothing(bench):
    """One error before the first row, no paid request."""
    work = bench()

    with pytest.raises(UnauthorizedError):
        work.run(5, settings={"api_key": "mak_wrong"})
    assert work.n_posts == 0


def test_a_key_that_is_revoked_in_mid_run_stops_it_and_keeps_what_is_known(bench):
    """No row fails for it: those sent are recorded, the others wait for the next run."""
    work = bench(faults=[{"kind": "status", "status": 401, "code": "unauthorized", "after": 10}])

    report = work.run(40, settings={"concurrency": 2})

    assert report.stopped == "unauthorized"
    assert report.images == 10
    assert report.failures.keys() <= {"unauthorized", "not_submitted"}
    assert report.withheld == 30
    work.server.set_scenario(faults=())
    assert work.run(40).posts_sent == 30
    work.require_sound(40)


def test_a_key_that_is_refused_while_waiting_still_leaves_tables(bench):
    """Sent and paid for, not readable now: the rows are listed as under way, with their ids."""
    work = bench(progress="manual")
    progress = RunProgress(
        on_round=lambda _: work.server.set_scenario(
            api_keys=[{"key": "mak_simulator", "revoked": True}]
        )
    )

    report = work.run(4, progress=progress)

    assert report.stopped == "unauthorized"
    assert report.pending == 4
    assert all(row["task_id"] for row in work.table("failures"))
    work.server.set_scenario(api_keys=["mak_simulator"])
    work.server.complete()
    assert work.run(4).images == 4
    assert work.n_posts == 4


@pytest.mark.parametrize("status", [402, 422])
def test_a_balance_that_runs_out_stops_the_run_and_no_row_fails(bench, status):
    """Told by code, whatever the status; after a top-up the next run goes on."""
    work = bench(balance_usd="0.05", quirks={"insufficient_balance_status": status})

    report = work.run(40, settings={"concurrency": 1})

    assert report.stopped == "insufficient_balance"
    n_paid = report.images
    assert 0 < n_paid < 40
    assert report.withheld == 40 - n_paid
    work.server.reset(work.server.scenario.changed({"balance_usd": "100"}))
    report = work.run(40)
    assert report.posts_sent == 40 - n_paid


def test_a_cancelled_run_sends_no_more_and_is_resumed(new_bench):
    """The switch is thrown in the middle: what was sent stays, the rest follows next time."""
    work = new_bench()
    stop = CancelToken()
    progress = RunProgress()
    progress.on_quote = lambda *_: None

    class Counts(type(progress.counts)):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "n_accepted" and value == 10:
                stop.set(CANCELLED)

    progress.counts = Counts()
    report = work.run(60, stop=stop, progress=progress, settings={"concurrency": 4})

    assert report.stopped == "cancelled"
    assert 10 <= work.n_posts < 20
    assert work.states().get("sending", 0) == 0
    assert work.run(60).images == 60
    assert work.n_posts == 60


def test_cancelling_ends_the_wait(new_bench):
    """Thrown while tasks are pending: the run ends soon, its tasks are collected later."""
    work = new_bench(progress="manual")
    stop = CancelToken()

    report = work.run(4, stop=stop, progress=RunProgress(on_round=lambda _: stop.set(CANCELLED)))

    assert report.stopped == "cancelled"
    assert report.pending == 4
    work.server.complete()
    assert work.run(4).images == 4
    assert work.n_posts == 4


def test_a_server_that_does_not_tell_its_revision_costs_nothing(new_bench):
    """Inconclusive at first sight: stop before spending, and remember the last verdict later."""
    probes = ("GET /models", "POST /image/generate/estimate")
    faults = [{"route": route, "kind": "html_error"} for route in probes]
    work = new_bench(faults=faults)

    with pytest.raises(ConfigError, match="does not tell its revision"):
        work.run(3)
    assert work.n_posts == 0
    work.server.set_scenario(faults=())
    work.run(3)
    work.server.set_scenario(faults=faults)
    assert work.run(4).posts_sent == 1


@pytest.mark.parametrize(
    ("revision", "status"),
    [
        *(("2026-04", 404), ("2026-04", 500), ("2026-08", 401)),
        *(("2026-08", 502), ("2026-10", 403), ("2026-10", 405)),
    ],
)
def test_a_proxy_that_keeps_the_catalogue_back_does_not_hide_the_revision(bench, status, revision):
    """Where an estimate is answered, its spelling tells as well."""
    faults = [{"route": "GET /models", "kind": "html_error", "status": status}]
    work = bench(faults=faults)

    if revision == "2026-04" and status not in (401, 404, 405):
        with pytest.raises(ConfigError, match="does not tell its revision"):
            work.run(2)
        return
    report = work.run(2)

    assert (report.images, report.api_revision) == (2, revision)


def test_a_verdict_is_not_given_up_for_routes_that_something_keeps_back(new_bench):
    """A proxy that closes both free routes makes the newest server look like the oldest."""
    work = new_bench()
    first = work.run(2)
    probes = ("GET /models", "POST /image/generate/estimate")
    closed = [{"route": route, "kind": "html_error", "status": 403} for route in probes]
    work.server.set_scenario(faults=[{**closed[0], "status": 404}, closed[1]])

    assert work.run(3).api_revision == first.api_revision
    work.require_sound(3)
