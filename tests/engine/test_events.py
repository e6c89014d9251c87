"""Working the inbox: evidence counts once, hints are confirmed, and nothing else changes."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace

import httpx
import orjson
import pytest

from mynth_dagster.clock import Instant
from mynth_dagster.engine.events import process_events
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.errors import LedgerUnavailableError
from mynth_dagster.ledger.claims import Claim, Claimed
from mynth_dagster.ledger.observations import Attachment, Observation, Source
from mynth_dagster.limits import INTENT_TAG_KEY, UNVERIFIED_TRIES_MAX
from mynth_dagster.models.intent import RowKey, intent_id, make_tag
from tests.engine.bench import TABLES, Bench
from tests.engine.post import (
    READS,
    batch,
    deliver,
    events,
    finish,
    in_session,
    n_requests,
    outcomes,
    send_all,
    work,
)
from tests.factories import KEY, MODEL, START_US, make_intent

KEY_OF_FIRST = f"p00000@{MODEL}"
FAILURES = [
    {"kind": "task", "prompt_contains": "prompt 1"},
    {"kind": "moderation", "prompt_contains": "prompt 2"},
    {"kind": "images", "prompt_contains": "prompt 3", "image_indexes": [1]},
]


def version(bench: Bench) -> int:
    return bench.query("SELECT max(version) FROM partitions")[0][0]


def test_signed_events_save_all_polling_and_reading(bench):
    """No request but those that sent the rows."""
    work_bench = bench(progress="manual")
    send_all(work_bench, 20)
    before = n_requests(work_bench, *READS)
    work_bench.server.complete()
    deliver(work_bench, events(work_bench.server))
    finish(work_bench)

    assert n_requests(work_bench, *READS) == before
    assert outcomes(work_bench) == {"read": 20}
    assert len(work_bench.table("images")) == 20
    work_bench.require_sound(20)


def test_the_event_of_a_failed_task_fails_its_row(bench):
    """`task.image.generate.failed`: the row is a failure, refunded, and its neighbour an image."""
    work_bench = bench(progress="manual", failures=[{"kind": "task", "prompt_contains": "bad"}])
    send_all(
        work_bench, [{"prompt_id": "a", "prompt": "bad"}, {"prompt_id": "b", "prompt": "good"}]
    )
    work_bench.server.complete()
    announced = list(events(work_bench.server))
    deliver(work_bench, announced)
    finish(work_bench)

    assert "task.image.generate.failed" in str(announced)
    (failure,) = work_bench.table("failures")
    assert (failure["prompt_id"], failure["status"]) == ("a", "failed")
    assert len(work_bench.table("images")) == 1


def test_tables_are_those_of_a_polled_run(bench, tmp_path):
    """Row by row: only the second in which a task ended is told less exactly."""
    of = batch(count=2)
    told = bench(progress="manual", failures=FAILURES)
    send_all(told, 12, of)
    told.server.complete()
    (tmp_path / "polled").mkdir()
    polled = Bench(told.server, told.clock, tmp_path / "polled")
    shutil.copytree(told.root, polled.root)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "polled" / "ledger.db")

    deliver(told, events(told.server))
    finish(told, of)
    finish(polled, of)

    for name in TABLES:
        assert plain(told.table(name)) == plain(polled.table(name)), name
    told.require_sound(12, count=2)


def plain(rows):
    """Rows without the time of the end, in milliseconds here and in seconds there."""
    return [{k: v for k, v in row.items() if k != "completed_at"} for row in rows]


def test_an_event_settles_a_row_whose_answer_was_lost_even_without_a_list(bench):
    """By the intent that the task names; nothing is sent again."""
    lost = {"kind": "lost_answer", "count": 1}
    work_bench = bench(progress="manual", faults=[lost])
    send_all(work_bench, 5)
    assert work_bench.states() == {"accepted": 4, "unresolved": 1}
    work_bench.server.complete()
    deliver(work_bench, events(work_bench.server))
    finish(work_bench)
    send_all(work_bench, 5)

    assert work_bench.states() == {"completed": 5}
    assert work_bench.n_posts == 5
    work_bench.require_sound(5)


def test_an_unresolved_row_is_settled_by_the_next_submission_too(bench):
    """Before anything is planned, and without asking Mynth."""
    work_bench = bench(progress="immediate", faults=[{"kind": "lost_answer", "count": 1}])
    send_all(work_bench, 1)
    deliver(work_bench, events(work_bench.server))
    before = n_requests(work_bench, *READS)
    send_all(work_bench, 1)

    assert work_bench.states() == {"completed": 1}
    assert work_bench.n_posts == 1
    assert n_requests(work_bench, "GET /tasks/:id") <= before + 1  # the proof that the key works


def test_an_event_may_come_before_the_answer_to_the_request(new_bench):
    """It attaches by the intent that it names; the answer then finds what it tells known."""
    work_bench = new_bench(progress="manual")
    send_all(work_bench, 1)
    work_bench.server.complete()
    ((task_id,),) = work_bench.query("SELECT task_id FROM intents")
    execute(work_bench, "DELETE FROM observations")
    execute(work_bench, "UPDATE intents SET state = 'sending', task_id = NULL")
    deliver(work_bench, events(work_bench.server))
    work(work_bench)
    assert work_bench.states() == {"completed": 1}

    async def answer_late(session: Session) -> Attachment | None:
        (intent,) = session.ledger.read.intents_for("b", "", [KEY_OF_FIRST])[KEY_OF_FIRST]
        observed = await session.ledger.observe(
            Observation(
                Source.RESPONSE, task_id, Instant(START_US), intent, START_US, reserved_units=77
            )
        )
        return observed.attachment

    assert in_session(work_bench, answer_late) is Attachment.KNOWN
    assert work_bench.query("SELECT reserved_units FROM intents") == [(77,)]
    finish(work_bench)
    work_bench.require_sound(1)


def execute(bench: Bench, statement: str) -> None:
    async def once(session: Session) -> None:
        def call(connection):
            connection.exec_driver_sql(statement)

        await session.ledger._commits.call(call)

    in_session(bench, once)


@pytest.mark.parametrize("how", ["again", "contradiction", "after the reading"])
def test_what_is_known_is_not_changed_by_any_event(bench, how):
    """Final states stay, tables have no news, and nothing is charged twice."""
    work_bench = bench(progress="manual")
    send_all(work_bench, 2)
    work_bench.server.complete()
    bodies = events(work_bench.server)
    if how == "after the reading":
        finish(work_bench)
    else:
        deliver(work_bench, bodies)
        finish(work_bench)
    before = (work_bench.states(), version(work_bench), work_bench.bytes_of_tables())
    if how == "contradiction":
        bodies = [failed_of(body) for body in bodies]
    deliver(work_bench, bodies)
    assert work(work_bench) == 0
    finish(work_bench)

    assert (work_bench.states(), version(work_bench), work_bench.bytes_of_tables()) == before


def failed_of(body: bytes) -> bytes:
    told = orjson.loads(body)
    name, errors = "task.image.generate.failed", [{"code": "generation_failed"}]
    if "data" in told:
        task = {**told["data"], "status": "failed", "errors": errors, "result": None, "cost": None}
        return orjson.dumps({**told, "type": name, "data": task})
    return orjson.dumps({**told, "event": name, "errors": errors})


def test_events_about_others_tasks_change_nothing(new_bench):
    """An account's webhook tells of every task of the account."""
    work_bench = new_bench()
    send_all(work_bench, 1)
    body = {"prompt": "by hand", "model": MODEL}
    for metadata in ({}, {INTENT_TAG_KEY: 7}, {INTENT_TAG_KEY: "int_x.y.led_other"}):
        create(work_bench, {**body, "metadata": metadata})
    deliver(work_bench, events(work_bench.server)[1:])

    assert work(work_bench) == 0
    assert outcomes(work_bench) == {"foreign": 3}
    assert len(work_bench.query("SELECT DISTINCT task_id FROM observations")) == 1


def create(bench: Bench, body) -> str:
    """A task made by hand, beside the engine."""
    with httpx.Client(base_url=bench.server.url, verify=False, trust_env=False) as client:
        headers = {"authorization": f"Bearer {KEY}"}
        answer = client.post("/image/generate", json=body, headers=headers).json()
    told = answer.get("data", answer)
    return told.get("task_id") or told["taskId"]


def test_an_event_that_names_our_ledger_but_no_intent_of_it_is_kept_whole(new_bench):
    """A ledger that was restored from an old copy may lack what it paid for."""
    work_bench = new_bench()
    send_all(work_bench, 1)
    ((ledger_id,),) = work_bench.query("SELECT value FROM meta WHERE key = 'ledger_id'")
    known = work_bench.query("SELECT intent_id, request_hash FROM intents")[0]
    tags = [
        make_tag(intent_id(ledger_id, RowKey("b", "", "gone"), 1), known[1], ledger_id),
        make_tag(known[0], "1:" + "0" * 32, ledger_id),
    ]
    for tag in tags:
        create(work_bench, {"prompt": "x", "model": MODEL, "metadata": {INTENT_TAG_KEY: str(tag)}})
    deliver(work_bench, events(work_bench.server)[1:])
    work(work_bench)

    assert outcomes(work_bench) == {"unmatched": 2}
    assert all(body for (body,) in work_bench.query("SELECT body FROM webhook_events"))
    assert work_bench.query("SELECT count(*) FROM tasks") == [(0,)]


@pytest.mark.parametrize("is_signed", [True, False])
def test_a_further_task_of_an_intent_is_surplus_and_listed(new_bench, is_signed):
    """It never takes the place of the first."""
    work_bench = new_bench()
    send_all(work_bench, 1)
    ((tag,),) = [(entry["intent_tag"],) for entry in work_bench.log["accepted"]]
    second = create(
        work_bench, {"prompt": "prompt 0", "model": MODEL, "metadata": {INTENT_TAG_KEY: tag}}
    )
    deliver(work_bench, events(work_bench.server), is_signed=is_signed)
    finish(work_bench)

    listed = {row["task_id"]: row["current"] for row in work_bench.table("tasks")}
    assert len(listed) == 2
    assert listed[second] is False
    assert work_bench.query("SELECT count(*) FROM tasks WHERE details IS NULL") == [(0,)]
    assert len(work_bench.table("images")) == 1


@pytest.mark.parametrize("kind", ["failure without a reason", "price beside the images"])
@pytest.mark.parametrize("revision", ["2026-08", "2026-10"])  # 2026-04 tells the sum
def test_an_event_that_does_not_tell_all_costs_one_reading(bench_of, revision, kind):
    """And no polling: that the task is finished is known."""
    failure = {"kind": "task"} if kind.startswith("failure") else None
    failures = [failure] if failure else []
    work_bench = bench_of(revision=revision, progress="manual", failures=failures)
    send_all(work_bench, [{"prompt_id": "a", "prompt": "x", "magic_prompt": failure is None}])
    before = n_requests(work_bench, *READS)
    work_bench.server.complete()
    (told,) = [orjson.loads(body) for body in events(work_bench.server)]
    if "data" in told:
        told["data"] |= {"errors": []} if failure else {"cost": None}
    elif failure is not None:
        told |= {"errors": []}
    deliver(work_bench, [orjson.dumps(told)])
    finish(work_bench)

    assert n_requests(work_bench, *READS) == before + 1
    assert n_requests(work_bench, "GET /tasks/:id") >= 1
    work_bench.require_sound(1)


def test_a_hint_is_confirmed_by_asking_for_the_task(bench):
    """Once for each task, which is also its reading; also for a row in doubt."""
    work_bench = bench(progress="manual", faults=[{"kind": "lost_answer", "count": 1}])
    send_all(work_bench, 4)
    before = n_requests(work_bench, *READS)
    work_bench.server.complete()
    deliver(work_bench, events(work_bench.server), is_signed=False)
    finish(work_bench)

    assert n_requests(work_bench, *READS) == before + 4
    assert work_bench.states() == {"completed": 4}
    work_bench.require_sound(4)


def test_a_false_hint_changes_nothing_and_is_given_up(new_bench):
    """The task is pending, or there is none: what Mynth says counts."""
    work_bench = new_bench(progress="manual")
    send_all(work_bench, 1)
    ((pending,),) = work_bench.query("SELECT task_id FROM intents")
    forged = [
        orjson.dumps({"event": "task.image.generate.failed", "task": {"id": task_id}})
        for task_id in (pending, "tsk_nobody")
    ]
    deliver(work_bench, forged, is_signed=False)
    before = version(work_bench)
    for _ in range(UNVERIFIED_TRIES_MAX):
        assert work(work_bench) == 0
        work_bench.clock.advance(3600)

    assert work_bench.states() == {"accepted": 1}
    assert version(work_bench) == before
    assert outcomes(work_bench) == {"unconfirmed": 2}
    assert n_requests(work_bench, "GET /tasks/:id") <= 2 * UNVERIFIED_TRIES_MAX


def test_a_hint_that_comes_too_early_is_confirmed_later(new_bench):
    """Mynth may be slower to show a task than to announce it."""
    work_bench = new_bench(progress="manual")
    send_all(work_bench, 1)
    ((task_id,),) = work_bench.query("SELECT task_id FROM intents")
    hint = orjson.dumps({"event": "task.image.generate.completed", "task": {"id": task_id}})
    deliver(work_bench, [hint], is_signed=False)
    assert work(work_bench) == 0
    work_bench.server.complete()
    assert work(work_bench) == 0
    work_bench.clock.advance(16)
    assert work(work_bench) == 1


def test_events_of_another_batch_are_worked_and_its_hints_left_alone(new_bench):
    """A signed event needs nobody's key; a hint is for those who have the batch's own."""
    work_bench = new_bench()
    other = batch(name="other")
    send_all(work_bench, 2, other)
    bodies = events(work_bench.server)
    deliver(work_bench, bodies[:1])
    deliver(work_bench, bodies[1:], is_signed=False)

    assert work(work_bench) == 1
    assert outcomes(work_bench) == {"read": 1, None: 1}
    assert work(work_bench, other) == 1
    work_bench.clock.advance(2 * 86_400)
    assert outcomes(work_bench) == {"read": 2}


def test_a_hint_that_nobody_works_is_not_kept_for_ever(new_bench):
    """The batch may be gone."""
    work_bench = new_bench(progress="manual")
    send_all(work_bench, 1, batch(name="gone"))
    work_bench.server.complete()
    deliver(work_bench, events(work_bench.server), is_signed=False)
    work(work_bench)
    work_bench.clock.advance(2 * 86_400)
    work(work_bench)

    assert outcomes(work_bench) == {"unconfirmed": 1}


def test_an_event_that_cannot_be_stored_does_not_stop_the_others(new_bench):
    """It is tried again, and polling would find its task as well."""
    work_bench = new_bench()
    send_all(work_bench, 2)
    deliver(work_bench, events(work_bench.server))

    query = "SELECT intent_id FROM intents WHERE prompt_id = 'p00000'"
    ((unlucky,),) = work_bench.query(query)

    async def work_with_one_bad(session: Session) -> int:
        observe = session.ledger.observe

        async def choosy(observation):
            if observation.task is not None and observation.intent.intent_id == unlucky:
                raise OverflowError("beyond all integers")
            return await observe(observation)

        session.ledger.observe = choosy  # type: ignore[method-assign]
        return await process_events(session, ImageWork(batch()))

    assert in_session(work_bench, work_with_one_bad) == 1
    assert outcomes(work_bench) == {"read": 1, None: 1}
    finish(work_bench)
    assert work_bench.states() == {"completed": 2}


def test_a_ledger_that_fails_is_reported(new_bench, monkeypatch):
    """A row that cannot be written is no event to be given up."""
    work_bench = new_bench()
    send_all(work_bench, 1)
    deliver(work_bench, events(work_bench.server))

    async def work_broken(session: Session) -> int:
        async def broken(*_):
            raise LedgerUnavailableError("down")

        monkeypatch.setattr(session.ledger, "observe", broken)
        monkeypatch.setattr(session.ledger.events, "postpone", broken)
        return await process_events(session, ImageWork(batch()))

    with pytest.raises(LedgerUnavailableError):
        in_session(work_bench, work_broken)


def test_two_workers_on_one_inbox_have_one_effect(new_bench):
    """Sensor and run may work at once."""
    work_bench = new_bench(progress="manual")
    send_all(work_bench, 30)
    work_bench.server.complete()
    deliver(work_bench, events(work_bench.server))
    before = version(work_bench)

    async def twice() -> list[int]:
        async with work_bench.session() as one, work_bench.session() as two:
            both = (process_events(session, ImageWork(batch())) for session in (one, two))
            return list(await asyncio.gather(*both))

    assert sum(asyncio.run(twice())) == 30
    assert work_bench.states() == {"completed": 30}
    assert outcomes(work_bench).keys() <= {"read", "known"}
    assert version(work_bench) > before
    finish(work_bench)
    work_bench.require_sound(30)


def test_a_backlog_longer_than_one_reading_is_worked_whole(new_bench, monkeypatch):
    """Page by page."""
    monkeypatch.setattr("mynth_dagster.engine.events.EVENTS_BATCH", 4)
    work_bench = new_bench()
    send_all(work_bench, 11)
    deliver(work_bench, events(work_bench.server))

    assert work(work_bench) == 11


def test_an_event_for_an_abandoned_row_is_evidence_all_the_same(new_bench):
    """Paid work is never thrown away."""
    work_bench = new_bench(progress="manual", faults=[{"kind": "lost_answer", "count": 1}])
    send_all(work_bench, 1)
    execute(work_bench, "UPDATE intents SET state = 'abandoned'")
    work_bench.server.complete()
    deliver(work_bench, events(work_bench.server))

    assert work(work_bench) == 1
    assert work_bench.states() == {"completed": 1}


def test_a_claim_of_a_row_that_was_announced_is_lost(new_bench):
    """The row is accepted: no run may send it."""
    work_bench = new_bench(progress="manual", faults=[{"kind": "lost_answer", "count": 1}])
    send_all(work_bench, 1)
    work_bench.server.complete()
    deliver(work_bench, events(work_bench.server))
    work(work_bench)

    async def claim(session: Session) -> Claimed:
        (intent,) = session.ledger.read.intents_for("b", "", [KEY_OF_FIRST])[KEY_OF_FIRST]
        again = replace(make_intent(), intent_id=intent.intent_id, row=intent.row)
        return await session.ledger.claim(Claim(again, 1, intent.attempt))

    assert in_session(work_bench, claim) is Claimed.LOST
