"""Stops and fences: once they are there no claim commits, whoever asks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim, Claimed
from mynth_dagster.ledger.stops import Stop
from tests.factories import START_US, make_intent
from tests.ledger.book import LATER, Book

STOP = Stop("b", None, None, "ann@desk", "wrong prompts", START_US)


def stop(book: Book, **fields: object) -> None:
    book.run(book.ledger.stops.stop(replace(STOP, **fields), LATER))


def resume(book: Book, batch: str = "b", window: str | None = None, fan_out: str | None = None):
    lifting = book.ledger.stops.lift(batch, window, fan_out, who="bob@desk", now=LATER)
    return book.run(lifting)[0]


@pytest.mark.parametrize(
    ("fields", "claimed"),
    [
        ({}, Claimed.STOPPED),
        ({"batch": ""}, Claimed.STOPPED),
        ({"window": "", "fan_out": "003"}, Claimed.STOPPED),
        ({"window": "", "fan_out": "004"}, Claimed.WON),
        ({"window": "2026-11-28", "fan_out": "003"}, Claimed.WON),
        ({"batch": "other"}, Claimed.WON),
    ],
    ids=["batch", "all", "partition", "another shard", "another window", "another batch"],
)
def test_what_a_stop_covers_is_not_claimed(book, fields, claimed):
    """New rows and rows that are tried again alike, until it is lifted."""
    stop(book, **fields)

    assert book.try_claim(make_intent(fan_out="003")) is claimed
    assert len(book.query("SELECT 1 FROM intents")) == (claimed is Claimed.WON)
    resume(book, batch=fields.get("batch", "b"))
    assert book.claim(make_intent("p2", fan_out="003"))


def test_follow_ups_stop_with_their_batch(book):
    """Their rows are kept under a name of their own."""
    stop(book)
    row = replace(make_intent().row, batch="b/ratings")

    assert book.try_claim(replace(make_intent(), row=row)) is Claimed.STOPPED


@pytest.mark.parametrize(
    ("batch", "claimed"),
    [("team/cats/ratings", Claimed.STOPPED), ("team/dogs", Claimed.WON), ("team", Claimed.WON)],
)
def test_an_identity_with_a_slash_is_a_batch_of_its_own(book, batch, claimed):
    """Only the table of follow-ups is cut off its name; what begins alike is another batch."""
    stop(book, batch="team/cats")
    row = replace(make_intent().row, batch=batch)

    assert book.try_claim(replace(make_intent(), row=row)) is claimed


def test_a_stop_of_a_shorter_name_is_not_one_of_a_longer(book):
    """`team` is no parent of `team/cats`."""
    stop(book, batch="team")
    row = replace(make_intent().row, batch="team/cats")

    assert book.try_claim(replace(make_intent(), row=row)) is Claimed.WON


def test_who_stopped_and_who_lifted_is_kept(book):
    """A second stop of the same replaces the reason; lifting tells what was lifted."""
    stop(book)
    stop(book, reason="too dear", who="eve@lab")

    (active,) = book.ledger.stops.active()
    assert (active.who, active.reason) == ("eve@lab", "too dear")
    assert resume(book) == [active]
    assert resume(book) == []
    rows = book.query("SELECT who, lifted_by FROM stops ORDER BY stop")
    assert rows == [("ann@desk", "eve@lab"), ("eve@lab", "bob@desk")]


def test_lifting_a_batch_lifts_its_partitions_and_all_lifts_everything(book):
    """The narrower goes with the wider, never the other way round."""
    stop(book, window="", fan_out="003")
    stop(book)
    stop(book, batch="")

    assert len(resume(book, window="", fan_out="003")) == 1
    assert len(resume(book)) == 1
    assert [each.batch for each in book.ledger.stops.active()] == [""]
    stop(book, batch="other")
    assert len(resume(book, batch="")) == 2


def test_a_fenced_run_claims_nothing_and_its_evidence_is_taken(book):
    """Others go on; a task that it learns of late is attached as ever."""
    book.open()
    intent = make_intent()
    book.try_claim(intent, run="run 1")

    assert book.run(book.ledger.stops.fence("run 1", "cancelled", LATER)) == [True]
    assert book.run(book.ledger.stops.fence("run 1", "again", LATER)) == [False]

    assert book.try_claim(make_intent("p2"), run="run 1") is Claimed.FENCED
    assert book.try_claim(make_intent("p2"), run="run 2") is Claimed.WON
    assert book.sight(intent).value == "attached"
    assert book.ledger.stops.fenced(["run 1", "run 2"]) == {"run 1": "cancelled"}


def test_a_claim_that_is_not_wanted_any_more_is_not_made(book):
    """It may have waited for the database while its run was cancelled."""
    assert book.try_claim(make_intent(), is_wanted=lambda: False) is Claimed.UNWANTED
    assert book.query("SELECT 1 FROM intents") == []


def test_no_claim_commits_after_a_stop_has(book, ledger_url):
    """Many claims and one stop at once, from two processes' worth of ledgers."""
    other = Ledger.open(ledger_url)
    n_claimed_at_stop: list[int] = []

    async def stop_in_the_middle() -> None:
        await asyncio.sleep(0)
        await other.stops.stop(STOP, LATER)
        n_claimed_at_stop.append(len(book.query("SELECT 1 FROM intents")))

    async def claims() -> list[Claimed]:
        found: list[Claimed] = []
        for n in range(300):
            claim = Claim(make_intent(f"p{n}"), 1)
            found.append(await book.ledger.claim(claim))
        return found

    async def both() -> list[Claimed]:
        found, _ = await asyncio.gather(claims(), stop_in_the_middle())
        return found

    try:
        found = asyncio.run(both())
    finally:
        other.close()

    assert (
        found.count(Claimed.WON) == n_claimed_at_stop[0] == len(book.query("SELECT 1 FROM intents"))
    )
    assert Claimed.STOPPED in found
