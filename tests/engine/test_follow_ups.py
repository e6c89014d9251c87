"""Ratings, alt texts and reviews: one paid task for each image, with the same promises."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, Retry, RunOptions
from mynth_dagster.engine.recover import rebuild
from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import (
    ConfigError,
    ConfirmationNeededError,
    LedgerMismatchError,
    UnsupportedFeatureError,
)
from mynth_dagster.followups.follow_ups import FollowUpWork, follow_up_images
from mynth_dagster.followups.tables import FollowUpSummary, shaped_answer
from mynth_dagster.models.batch_settings import EVERY_FOLLOW_UP, FollowUp
from mynth_dagster.models.request import FollowUpKind, RatingLevel
from mynth_dagster.tables.schemas import schema_of
from tests.batches import make_batch
from tests.engine.bench import Bench
from tests.factories import KEY, MODEL

RATE, ALT, REVIEW = EVERY_FOLLOW_UP
ALL = [RATE, ALT, REVIEW]
TWO = {"count": 2}
MINUTE_S = 60.0


def ask(
    work: Bench,
    follow_up: FollowUp = RATE,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    progress: RunProgress | None = None,
    prices: dict[str, Any] | None = None,
) -> FollowUpSummary:
    """One run that asks about the images of the bench's batch."""
    images = make_batch("b", models=(MODEL,), prices_usd=prices or {})

    async def once() -> FollowUpSummary:
        async with work.session() as session:
            found = follow_up_images(
                session,
                FollowUpWork(images, follow_up),
                images.slices(),
                submitter="test",
                stop=CancelToken(),
                progress=progress or RunProgress(),
                options=options,
            )
            (summary,) = [one async for one in found]
            return summary

    return asyncio.run(once())


def n_asked_by_url(work: Bench, kind: FollowUpKind = FollowUpKind.RATE) -> Counter[str]:
    """Accepted requests by the URL that they are about, as the simulator counts."""
    route = f"POST /image/{kind.value}"
    entries = [entry for entry in work.log["accepted"] if entry["route"] == route]
    return Counter(url for entry in entries for url in entry["urls"])


@pytest.fixture
def made(new_bench):
    """A bench with images of so many rows, two of each."""

    def make(n_rows: int = 6, **scenario: Any) -> Bench:
        work = new_bench(**scenario)
        work.run(n_rows, **TWO)
        return work

    return make


def send_later(work: Bench) -> None:
    """A row of another table, whose task shows that the list is no old copy."""
    work.server.set_scenario(faults=())
    work.run(1, name="later")


@pytest.mark.parametrize("follow_up", ALL, ids=lambda one: one.table)
def test_each_image_is_followed_up_once(made, follow_up):
    """And asked about nothing again by a second run, which writes the same bytes."""
    work = made()
    summary = ask(work, follow_up)
    assert (summary.n_images, summary.n_answered) == (12, 12)
    urls = {row["mynth_url"] for row in work.table("images")}
    assert n_asked_by_url(work, follow_up.settings.kind) == dict.fromkeys(urls, 1)

    (file,) = (work.root / "b" / follow_up.table).rglob("*.parquet")
    before = file.read_bytes()
    ask(work, follow_up)
    assert n_asked_by_url(work, follow_up.settings.kind).total() == 12
    assert file.read_bytes() == before


def test_answers_stand_beside_their_images(made):
    """Each table has its own columns, and the keys to join with `images`."""
    work = made(2)
    for follow_up in ALL:
        ask(work, follow_up)

    images = [(row["request_key"], row["image_index"]) for row in work.table("images")]
    for follow_up in ALL:
        rows = work.table(follow_up.table)
        assert [(row["request_key"], row["image_index"]) for row in rows] == images
        assert {row["status"] for row in rows} == {"completed"}
        assert all(row["cost_usd"] > 0 for row in rows)
    assert {row["level"] for row in work.table("ratings")} <= {"sfw", "nsfw"}
    assert all(row["alt"] for row in work.table("alt_texts"))
    reviews = work.table("reviews")
    findings = [finding for review in reviews for finding in review["findings"]]  # may be none
    strengths = [strength for review in reviews for strength in review["strengths"]]
    assert {review["score"] for review in reviews} <= {1, 2, 3, 4}
    assert {finding["severity"] for finding in findings} <= {"critical", "major", "minor"}
    assert {strength["confidence"] for strength in strengths} <= {"low", "medium", "high"}


def test_own_levels_and_effort_are_part_of_the_request(made):
    """Another scale is another question, and paid for once that is confirmed."""
    work = made(1)
    levels = (RatingLevel("calm", "quiet"), RatingLevel("wild", "loud"))
    ask(work, RATE)
    with pytest.raises(ConfirmationNeededError):
        ask(work, FollowUp(table="ratings", levels=levels))
    assert n_asked_by_url(work).total() == 2
    ask(work, FollowUp(table="ratings", levels=levels), RunOptions(confirm=True))
    assert n_asked_by_url(work).total() == 4
    assert {row["level"] for row in work.table("ratings")} <= {"calm", "wild"}

    ask(work, FollowUp(table="reviews", effort="low"))
    ask(work, FollowUp(table="reviews", effort="low"))
    assert n_asked_by_url(work, FollowUpKind.REVIEW).total() == 2


def test_only_new_images_are_asked_about(made):
    """Rows that were added, and rows that were paid for again."""
    work = made(3)
    ask(work)
    work.run(5, **TWO)
    assert ask(work).n_images == 10
    assert n_asked_by_url(work).total() == 10


@pytest.mark.parametrize("kind", ["lost_answer", "reset", "truncated", "server_error"])
def test_a_lost_answer_is_found_by_what_it_was_about(made, kind):
    """Such requests carry no tag: type and URL tell whose task it is, and none is sent again."""
    work = made()
    work.server.set_scenario(faults=[{"route": "POST /image/rate", "kind": kind, "every": 4}])
    ask(work)
    work.server.set_scenario(faults=())
    send_later(work)
    for pause_s in (0.0, 20 * MINUTE_S, 4 * MINUTE_S, 100 * MINUTE_S, 4 * MINUTE_S):
        work.clock.advance(pause_s)
        summary = ask(work)

    assert summary.n_answered == 12
    assert max(n_asked_by_url(work).values()) == 1
    assert ask(work).n_answered == 12
    assert n_asked_by_url(work).total() == 12


def test_a_task_that_fails_is_a_row_with_a_next_step(made):
    """Asked for again it is paid for again, and only when somebody asks."""
    work = made(2)
    fault = {"kind": "status", "status": 400, "code": "validation_error", "first": 1}
    work.server.set_scenario(faults=[{"route": "POST /image/rate", **fault}])
    summary = ask(work)

    (bad,) = [row for row in work.table("ratings") if row["status"] != "completed"]
    assert (summary.n_answered, bad["status"], bad["money"]) == (3, "rejected", "not charged")
    assert bad["error_code"] == "validation_error"
    assert "ratings" in bad["next_step"]

    assert ask(work).n_answered == 3
    assert ask(work, options=RunOptions(Retry.FAILED)).n_answered == 4


def test_a_budget_of_its_own_stops_it(made):
    """Money spent on images does not count, money spent on follow-ups does."""
    work = made(3)
    capped = FollowUp(table="ratings", budget_usd={"batch": "0.0005"})
    summary = ask(work, capped, prices={"image.rate": "0.0002"})

    assert n_asked_by_url(work).total() == 2
    withheld = [row for row in work.table("ratings") if row["status"] == "withheld"]
    assert (len(withheld), withheld[0]["error_code"]) == (4, "budget_exceeded")
    assert summary.n_answered == 2


def test_the_receipt_knows_it_by_its_own_name(made):
    """Images and follow-ups are told apart."""
    work = made(2)
    ask(work)
    charged = dict(work.query("SELECT batch, sum(charged_units) FROM intents GROUP BY batch"))
    assert set(charged) == {"b", "b/ratings"}
    by_route = Counter(entry["route"] for entry in work.log["accepted"])
    assert by_route == {"POST /image/generate": 2, "POST /image/rate": 4}


def test_the_older_revision_has_no_such_tasks(bench):
    """It says so before anything is spent; the newer one has them."""
    work = bench()
    work.run(1)
    if work.server.scenario.revision != "2026-04":
        assert ask(work).n_answered == 1
        return
    with pytest.raises(UnsupportedFeatureError, match="2026-04 has no follow-up tasks"):
        ask(work)
    assert n_asked_by_url(work).total() == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"table": "thumbs"}, "'thumbs': should be 'ratings', 'alt_texts' or 'reviews'"),
        ({"table": "reviews", "effort": "huge"}, "'huge': should be 'low' or 'high'"),
        ({"table": "alt_texts", "effort": "low"}, "only reviews have an effort"),
        ({"table": "alt_texts", "levels": [RatingLevel("a", "b")]}, "only ratings have levels"),
        ({"table": "ratings", "retries": 11}, "11: should be less than or equal to 10"),
    ],
)
def test_a_follow_up_that_is_none_is_refused_where_it_is_written(fields, message):
    """With the setting, the value and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        FollowUp(**fields)


def test_a_scale_that_mynth_does_not_know_is_refused_before_anything_is_sent(made):
    """With the setting, the value and what is allowed."""
    work = made(1)
    with pytest.raises(ConfigError, match="2 to 7"):
        ask(work, FollowUp(table="ratings", levels=[RatingLevel("a", "b")]))
    assert n_asked_by_url(work).total() == 0


def test_two_lost_follow_ups_of_one_image_are_left_to_a_person(made):
    """Whose task is whose cannot be told: none is attached, none is cleared, none is sent again."""
    work = made(1)
    scales = [
        FollowUp(table="ratings", levels=[RatingLevel("a", word), RatingLevel("b", word)])
        for word in ("first", "second")
    ]
    lost = {"route": "POST /image/rate", "kind": "lost_answer"}
    unlisted = {"route": "GET /tasks", "kind": "server_error"}
    work.server.set_scenario(faults=[lost, unlisted])
    for scale in scales:
        ask(work, scale)
    work.server.set_scenario(faults=())
    n_accepted = n_asked_by_url(work).total()
    assert n_accepted == 4

    for pause_s in (20 * MINUTE_S, 4 * MINUTE_S, 100 * MINUTE_S, 4 * MINUTE_S):
        work.clock.advance(pause_s)
        for scale in scales:
            ask(work, scale)

    assert n_asked_by_url(work).total() == n_accepted
    assert work.states()["unresolved"] == 4


def test_a_rating_of_somebody_else_is_nobodys_answer(made):
    """The same URL, rated with the same key before our request: not taken, and in the way."""
    work = made(1)
    url = work.table("images")[0]["mynth_url"]
    headers = {"authorization": f"Bearer {KEY}"}
    httpx.post(f"{work.server.url}/image/rate", json={"url": url}, headers=headers)
    work.clock.advance(30 * MINUTE_S)
    lost = {"route": "POST /image/rate", "kind": "server_error", "status": 503, "first": 2}
    work.server.set_scenario(faults=[lost])
    ask(work)
    send_later(work)
    for pause_s in (20 * MINUTE_S, 4 * MINUTE_S, 100 * MINUTE_S, 4 * MINUTE_S):
        work.clock.advance(pause_s)
        summary = ask(work)

    others = work.log["accepted"][1]["task_id"]
    assert others not in {row["task_id"] for row in work.table("ratings")}
    assert summary.n_answered == 1
    (held,) = [row for row in work.table("ratings") if row["status"] == "unresolved"]
    assert f"{others} is about the same image" in held["error_message"]


@pytest.mark.parametrize(
    ("kind", "told", "cells"),
    [
        (FollowUpKind.RATE, {"level": {"odd": 1}}, None),
        (FollowUpKind.RATE, {"level": 2}, {"level": "2"}),
        (FollowUpKind.ALT, {"alt": ""}, None),
        (FollowUpKind.REVIEW, {"score": "3.5"}, {"score": 3.5, "summary": None}),
        (FollowUpKind.REVIEW, {"score": True}, None),
        (
            FollowUpKind.REVIEW,
            {"score": 4, "findings": ["six fingers", {"finding": "blur", "confidence": 0.9}, 7]},
            {"findings": ["six fingers", "blur", "7"]},
        ),
        (FollowUpKind.REVIEW, {"score": 1, "strengths": "none"}, {"strengths": None}),
    ],
)
def test_an_odd_answer_stands_in_nobodys_way(kind, told, cells):
    """What does not fit is left out; only what was asked for is indispensable."""
    shaped = shaped_answer(kind, told)
    if cells is None:
        assert shaped is None
        return
    shaped["findings"] = [f["finding"] for f in shaped.get("findings") or ()] or None
    assert {name: shaped[name] for name in cells} == cells
    assert pa.RecordBatch.from_pylist([{}], schema=schema_of(kind.table)).num_rows == 1


def test_a_rebuilt_ledger_asks_about_no_image_again(made):
    """What the tables tell of them is put back; an emptied ledger with the mark is refused."""
    work = made(3)
    ask(work)
    Path(work.ledger_url.removeprefix("sqlite:///")).unlink()
    with pytest.raises(LedgerMismatchError, match="Nothing was sent"):
        ask(work)

    async def again() -> None:
        async with work.session() as session:
            batch = make_batch("b", models=(MODEL,))
            await rebuild(session, batch, [FollowUpWork(batch, follow_up) for follow_up in ALL])

    asyncio.run(again())
    assert ask(work).n_answered == 6
    assert n_asked_by_url(work).total() == 6


def test_a_ledger_that_lost_only_the_follow_ups_is_refused(made):
    """The mark beside the tables is right, and the follow-ups are unknown all the same."""
    work = made(2)
    ask(work)
    path = work.ledger_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as ledger:
        for table in ("intents", "partitions"):
            ledger.execute(f"DELETE FROM {table} WHERE batch = 'b/ratings'")
    ledger.close()
    with pytest.raises(LedgerMismatchError, match="b/ratings holds results"):
        ask(work)
    assert n_asked_by_url(work).total() == 4
